"""Root directories that hold what no commit can."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from compose.blobs import BlobStore
from compose.errors import StorageError, UsageError
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


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an ordinary user, such as /etc/shadow; root may read everything."""
    shadow = tmp_path / "root/usr/shadow"
    shadow.parent.mkdir(parents=True)
    shadow.touch()
    store, real = BlobStore(str(tmp_path / "blobs")), os.open

    def refuse(path: str, *rest: Any, **options: Any) -> int:
        if str(path).endswith("/shadow"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=f"cannot read {shadow}: Permission denied"):
        read_rootfs(str(tmp_path / "root"), store, Reporter(), writer="x")
