"""The repository lock, as libostree takes it: an OFD lock on the whole of `.lock`, shared to commit, exclusive to prune.

flock() would not exclude libostree, nor the other way round; a lock of the process (F_SETLK) would be lost when any
descriptor of the file is closed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from compose.errors import RepositoryError
from compose.events import Reporter

_F_OFD_SETLK = 37  # linux/fcntl.h; fcntl names it from Python 3.9 on only where the C library does
_POLL = 0.05  # seconds


def try_lock(fd: int, *, exclusive: bool) -> bool:
    """Lock the whole of an open file, or say that somebody else has it. The lock goes with the descriptor."""
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    try:
        fcntl.fcntl(fd, _F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def locked(repo_fd: int, path: str, *, exclusive: bool, timeout: int, reporter: Reporter) -> Iterator[None]:
    """Hold the lock of the repository open at repo_fd. timeout: seconds, -1 for ever.

    Raises RepositoryError when somebody else holds it for longer.
    """
    fd = os.open(".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660, dir_fd=repo_fd)
    try:
        begun = time.monotonic()
        told = False
        while not try_lock(fd, exclusive=exclusive):
            waited = time.monotonic() - begun
            if timeout >= 0 and waited >= timeout:
                raise RepositoryError(
                    f"{path} has been locked by another process for {timeout} s",
                    hint="wait for the prune or commit that runs there; core.lock-timeout-secs sets the time",
                )
            if not told and waited > 1:
                reporter.info(f"Waiting for the lock of {path}")
                told = True
            time.sleep(_POLL)
        yield
    finally:
        os.close(fd)
