"""Objects as their inodes show them, where that is not all root's to decide."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compose.ostree.worker import NOT_REGULAR, Writer

_NOBODY = 65534
_META = (b"user.ostreemeta", b"owner, mode, xattrs")


@contextmanager
def ordinary_user(*owned: Path) -> Iterator[None]:
    """These directories are theirs."""
    if os.geteuid():
        yield
        return
    for path in owned:
        os.chown(path, _NOBODY, -1)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("mode", [0o444, 0o400, 0o644, 0o755, 0o775, 0o664])
def test_an_ordinary_user_writes_bare_user_objects_of_any_mode(mode: int, umask: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        top.chmod(0o755)
        for name in ("objects", "staging"):
            (top / name).mkdir()
        (top / "source").write_bytes(b"content")
        before = os.umask(umask)
        try:
            attributes = [(b"header", b"", b"", (-1, -1, mode, [_META]))]
            writer = Writer(False, True, str(top / "objects"), str(top / "staging"), None, attributes, [])
            with ordinary_user(top / "staging"):
                ((_, size, written),) = writer.write_batch([(str(top / "source"), 0, "", None)])
        finally:
            os.umask(before)
        assert size == written == 7
        (made,) = (top / "staging").glob("*/*")
        assert stat.S_IMODE(made.stat().st_mode) == mode
        assert os.getxattr(made, _META[0]) == _META[1]
        assert made.stat().st_mtime_ns == 0


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    writer = Writer(True, False, str(tmp_path), str(tmp_path), None, [(b"", b"", b"", (-1, -1, 0o644, []))], [])
    assert writer.write_batch([(pipe, 0, "", None)]) == (NOT_REGULAR, pipe, 0, "")
