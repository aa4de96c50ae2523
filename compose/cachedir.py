"""What is remembered between composes, and where one compose works.

    CACHEDIR/                  0700, one owner
        blobs/                 file contents by digest             (compose.blobs)
        manifests/             facts of RPMs by sha256             (compose.importer)
        repomd/  rpms/         repository metadata and RPMs        (compose.solve, compose.fetch)
        preview-repo/          where a compose without --repo goes
        work/XXXXXXXX/         scratch of one running compose
        work/XXXXXXXX.lock     held by it as long as it lives

Scratch of a compose that was killed is found by its lock being free, and removed by the next compose.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from compose.errors import StorageError
from compose.fs import remove_tree


class CacheDir:
    """A cachedir, made when absent.

    Raises StorageError when it cannot be made, belongs to somebody else or may be written by others: what lies in it
    ends up in composed systems.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            status = os.stat(self.path)
        except OSError as error:
            raise StorageError(
                f"cannot use {self.path} as cachedir: {error.strerror}", hint="give another one with --cachedir"
            ) from error
        if status.st_uid != os.geteuid():
            raise StorageError(
                f"the cachedir {self.path} belongs to uid {status.st_uid}, not to you (uid {os.geteuid()})",
                hint="give one of your own with --cachedir",
            )
        if status.st_mode & 0o022:
            raise StorageError(
                f"the cachedir {self.path} may be written by others (mode {status.st_mode & 0o7777:04o})",
                hint=f"chmod go-w {self.path}",
            )

    def join(self, name: str) -> str:
        """Absolute path of something in the cachedir."""
        return os.path.join(self.path, name)

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """A new private directory, removed at the end; leftovers of killed composes are removed first."""
        top = self.join("work")
        os.makedirs(top, mode=0o700, exist_ok=True)
        with _locked(os.path.join(top, ".lock")):
            # under the lock of all: nobody takes a directory for a leftover before its own lock is held
            _remove_leftovers(top)
            directory = tempfile.mkdtemp(dir=top)
            lock = os.open(directory + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            remove_tree(directory)
            os.unlink(directory + ".lock")
            os.close(lock)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_leftovers(top: str) -> None:
    for name in os.listdir(top):
        path = os.path.join(top, name)
        if name.startswith(".") or not name.endswith(".lock"):
            continue
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            if os.path.lexists(directory := path.removesuffix(".lock")):
                remove_tree(directory)
            os.unlink(path)
        finally:
            os.close(lock)
