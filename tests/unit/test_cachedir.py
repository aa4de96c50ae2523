"""The cachedir: whose it is, and what a killed compose leaves in it."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose import cachedir
from compose.blobs import BlobStore
from compose.cachedir import PARTS, CacheDir
from compose.errors import StorageError
from compose.events import Reporter
from compose.fs import is_own_directory


def test_made_private(tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path / "a" / "b"))
    assert os.stat(cache.path).st_mode & 0o777 == 0o700


def test_writable_by_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StorageError, match="may be written by others") as caught:
        CacheDir(str(tmp_path))
    assert caught.value.hint == f"chmod go-w {tmp_path}"


def test_another_group_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o2755)
    CacheDir(str(tmp_path))
    monkeypatch.setattr(os, "getegid", lambda: tmp_path.stat().st_gid + 1)
    with pytest.raises(StorageError, match="composed files would inherit") as caught:
        CacheDir(str(tmp_path))
    assert caught.value.hint == f"chmod g-s {tmp_path}"


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use"):
        CacheDir(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("filename", "place"), [(7, "cache"), (b"/x", "/x"), ("/x", "/x"), ("x", "cache"), (None, "cache")]
)
def test_a_full_disk_is_named(filename: int | bytes | str | None, place: str, tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    with pytest.raises(StorageError) as caught, cache.shared(Reporter()):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)
    assert caught.value.message == f"cannot write {tmp_path / place}: No space left on device"


def test_a_filesystem_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS without its lock daemon."""
    cache = CacheDir(str(tmp_path / "cache"))

    def flock(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError) as caught, cache.shared(Reporter()):
        pass
    assert caught.value.message == f"cannot write {cache.path}/.lock: No locks available"
    assert "rpc.statd" in str(caught.value.hint)


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_disk_that_is_full_for_a_scratch_directory(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    top = Path(cache.path, "work")
    top.mkdir()
    real = getattr(os, call)

    def full(path: str, *arguments: int) -> object:
        if os.path.dirname(path) == str(top) and not path.endswith("/.lock"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return real(path, *arguments)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageError, match="No space left on device"), cache.scratch():
        pass
    assert os.listdir(top) == [".lock"]


def test_scratch_is_removed(tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    with cache.scratch() as directory:
        assert os.path.isdir(directory)
        os.mkdir(os.path.join(directory, "x"))
    assert [name for name in os.listdir(cache.join("work")) if name != ".lock"] == []


def test_leftovers_of_a_killed_compose_are_removed_and_a_live_one_is_kept(tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    program = (
        "import os, sys; from compose.cachedir import CacheDir\n"
        "with CacheDir(sys.argv[1]).scratch() as directory: print(directory, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, cache.path], stdout=subprocess.PIPE, text=True, check=False)
    killed = done.stdout.strip()
    assert done.returncode == -9
    assert os.path.isdir(killed)
    with cache.scratch() as first, cache.scratch() as second:
        assert not os.path.exists(killed)
        assert os.path.isdir(first)
        assert os.path.isdir(second)


def test_a_leftover_that_its_owner_removes_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    os.makedirs(cache.join("work/ending"))

    def remove(path: str) -> None:
        if path.endswith("ending"):
            os.rmdir(path)
            os.unlink(f"{path}.lock")

    monkeypatch.setattr(cachedir, "_remove_tree", remove)
    with cache.scratch():
        assert not os.path.exists(cache.join("work/ending"))


def test_scratch_without_a_lock_is_a_leftover(tmp_path: Path) -> None:
    """Of a compose that was killed between the two."""
    cache = CacheDir(str(tmp_path / "cache"))
    os.makedirs(cache.join("work/abandoned/deep"))
    with cache.scratch():
        assert not os.path.exists(cache.join("work/abandoned"))
        assert not os.path.exists(cache.join("work/abandoned.lock"))


def test_files_that_a_killed_compose_was_writing_are_removed(tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path))
    for name in ("object-memo.0123456789ab.tmp", "verified.0123456789ab.tmp", "my.tmp", "object-memo"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000, 1000))
    # another compose is writing it
    (tmp_path / "object-memo.ba9876543210.tmp").touch()
    with cache.scratch():
        assert sorted(os.listdir(tmp_path)) == ["my.tmp", "object-memo", "object-memo.ba9876543210.tmp", "work"]


class Warnings(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("fault", ["open to others", "symlink", "file"])
def test_what_cannot_be_trusted_is_put_away(tmp_path: Path, part: str, fault: str) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    path = Path(cache.join(part))
    if fault == "symlink":
        path.symlink_to(elsewhere)
    elif fault == "file":
        path.touch()
    else:
        (path / "planted").mkdir(parents=True)
        path.chmod(0o777)
    heard = Warnings()
    with cache.shared(heard):
        assert os.listdir(path) == []
        assert is_own_directory(path.lstat())
    assert len(heard.said) == 1
    assert str(path) in heard.said[0]
    assert (elsewhere / "precious").exists()


@pytest.mark.root
def test_parts_of_another_owner_are_put_away(tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    os.mkdir(cache.join("blobs"), 0o700)
    os.chown(cache.join("blobs"), 12345, 0)
    heard = Warnings()
    with cache.shared(heard):
        assert is_own_directory(os.lstat(cache.join("blobs")))
    assert "belongs to uid 12345" in heard.said[0]


@pytest.mark.parametrize("umask", [0, 0o002])
def test_nobody_else_may_write_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for _ in range(2):
            cache, heard = CacheDir(str(tmp_path / "cache")), Warnings()
            with cache.shared(heard):
                BlobStore(cache.join("blobs")).add_bytes(b"x")
            assert heard.said == []
    finally:
        os.umask(before)
    assert all(is_own_directory(os.lstat(cache.join(part))) for part in PARTS)
