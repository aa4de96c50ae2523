"""Root directories that hold what no commit can."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import UsageError
from compose.events import Reporter
from compose.rootfs import read_rootfs


def test_what_is_not_utf8(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    os.symlink(b"a\xff", os.fsencode(root / "usr/link"))
    Path(os.fsdecode(os.fsencode(root) + b"/usr/b\xff")).touch()
    with pytest.raises(UsageError, match="2 files cannot be committed") as caught:
        read_rootfs(str(root), BlobStore(str(tmp_path / "blobs")), Reporter(), writer="x")
    assert sorted(caught.value.details) == [
        "/usr/link has the target b'a\\xff', which is not UTF-8, as commits require",
        "b'usr/b\\xff' is not UTF-8, as commits require",
    ]
