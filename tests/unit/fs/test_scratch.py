"""Directories beside what is made in them."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose import fs, scratch
from compose.errors import StorageError
from compose.scratch import directory_beside, temporary_directory


def test_a_directory_beside_a_path_is_removed_though_its_process_was_killed(tmp_path: Path) -> None:
    killed = tmp_path / ".new-0123456789abcdef"
    killed.mkdir()
    (killed / "part").touch()
    (tmp_path / ".newer").mkdir()
    with directory_beside(str(tmp_path / "file"), ".new-") as first:
        assert not killed.exists()
        with directory_beside(str(tmp_path / "file"), ".new-") as second:
            # whoever lives keeps what is theirs
            assert sorted(os.listdir(tmp_path)) == sorted([".newer", os.path.basename(first), os.path.basename(second)])
    assert os.listdir(tmp_path) == [".newer"]


def test_what_cannot_be_removed_at_the_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, directory_beside(str(tmp_path / "file"), ".new-"):
        patch.setattr(fs, "remove_tree", fail)
    assert os.listdir(tmp_path)
    scratch.remove_leftovers(str(tmp_path / "file"), ".new-")
    assert not os.listdir(tmp_path)


def test_a_directory_beside_what_has_no_place(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "file")
    with pytest.raises(StorageError, match=f"cannot write {path}"), directory_beside(path, ".new-"):
        pass


def test_a_temporary_directory_is_removed_though_its_process_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os; from compose.scratch import temporary_directory\n"
        "with temporary_directory('compose-x-') as directory: os.mkdir(f'{directory}/a'); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    assert (left / "a").is_dir()
    # not a directory of this process: another program's, another user's
    (tmp_path / "compose-x-abcdefgh").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)
        with temporary_directory("compose-x-", str(tmp_path)):
            assert left.exists()
    with temporary_directory("compose-x-", str(tmp_path)) as first:
        assert not left.exists()
        with temporary_directory("compose-x-", str(tmp_path)) as second:
            assert {os.path.dirname(each) for each in (first, second)} == {str(tmp_path)}
            assert os.path.isdir(first)
    assert os.listdir(tmp_path) == ["compose-x-abcdefgh"]


def test_a_directory_that_is_taken_for_a_leftover_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real = [], os.mkdir

    def mkdir(path: str, mode: int) -> None:
        real(path, mode)
        made.append(path)
        if len(made) == 1:
            os.rmdir(path)
        elif len(made) == 2:
            # between open() and flock(): by another process that found it unlocked
            monkeypatch.setattr(scratch, "_try_lock", lambda lock: locking(lock, path))

    locked = scratch._try_lock

    def locking(lock: int, path: str) -> bool:
        monkeypatch.setattr(scratch, "_try_lock", locked)
        os.rmdir(path)
        return locked(lock)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with temporary_directory("compose-x-", str(tmp_path)) as directory:
        assert made.index(directory) == 2
        assert os.path.isdir(directory)
    assert os.listdir(tmp_path) == []


def test_a_filesystem_that_locks_no_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say there which directories are leftovers: they stay."""
    left = tmp_path / "compose-x-0123456789abcdef"
    left.mkdir()
    tries = []

    def flock(fd: int, how: int) -> None:
        tries.append(fd)
        assert len(tries) < 9
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with temporary_directory("compose-x-", str(tmp_path)) as directory:
        assert sorted(tmp_path.iterdir()) == sorted([left, Path(directory)])
    assert list(tmp_path.iterdir()) == [left]


def test_two_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each looks for leftovers when it begins, while the other removes its directory."""
    program = (
        "import os, time; from compose.scratch import temporary_directory\n"
        "until = time.monotonic() + 0.7\n"
        "while time.monotonic() < until:\n"
        "    with temporary_directory('compose-x-') as directory: os.mkdir(f'{directory}/a'); os.mkdir(f'{directory}/b')"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]
    assert os.listdir(tmp_path) == []


def test_no_place_for_a_temporary_directory(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="cannot create a temporary directory: No such file") as caught,
        temporary_directory("compose-x-", str(tmp_path / "missing")),
    ):
        pass
    assert "TMPDIR" in str(caught.value.hint)
