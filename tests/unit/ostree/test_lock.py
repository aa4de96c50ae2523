"""The lock of a repository that somebody else holds, or that is none."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.errors import RepositoryError, StorageError
from compose.events import Reporter
from compose.ostree.lock import LOCK, locked, locked_to_read, try_lock
from compose.ostree.repo import Repo


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repo]:
    with Repo.create(str(tmp_path / "repo")) as made:
        with Path(made.path, "config").open("a") as config:
            config.write("lock-timeout-secs=0\n")
        with Repo.open(made.path) as opened:
            yield opened


@pytest.fixture
def name() -> Iterator[Path]:
    """Of this process, restored afterwards."""
    name = Path("/proc/self/comm")
    before = name.read_bytes()
    yield name
    name.write_bytes(before)


def test_the_holder_is_named_even_if_its_name_is_truncated_within_a_character(repo: Repo, name: Path) -> None:
    name.write_bytes("fourteen-bytesß".encode())
    with open(os.path.join(repo.path, LOCK), "w+b") as held:
        assert try_lock(held.fileno(), exclusive=False)
        with (
            pytest.raises(RepositoryError, match=rf"locked by fourteen-bytes\ufffd \(process {os.getpid()}\)"),
            locked(repo, Reporter(), exclusive=True),
        ):
            pass


def test_a_directory_is_no_lock(repo: Repo) -> None:
    Path(repo.path, LOCK).mkdir()
    with (
        pytest.raises(RepositoryError, match="is a directory, not a lock file"),
        locked(repo, Reporter(), exclusive=True),
    ):
        pass


def test_a_filesystem_without_locks_is_told(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS without its lock daemon."""

    def refused(fd: int, command: int, lock: bytes) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", refused)
    with (
        pytest.raises(StorageError, match=f"cannot write {repo.path}/{LOCK}: No locks available"),
        locked(repo, Reporter(), exclusive=False),
    ):
        pass


def test_who_may_not_write_the_lock_reads_without_it(repo: Repo) -> None:
    """As where root has composed into a user's directory."""
    Path(repo.path, LOCK).touch(0o444)
    root = not os.geteuid()
    if root:
        os.chown(repo.path, 65534, -1)
        os.setresuid(65534, 65534, 0)
    try:
        with locked_to_read(repo, Reporter()):
            pass
    finally:
        if root:
            os.setresuid(0, 0, 0)
