"""The lock of a repository, as libostree takes it: an OFD lock on the whole file .lock, shared to commit, exclusive to prune.

flock() and libostree would not exclude each other, and a process's lock (F_SETLK) would be lost if any descriptor of the file
were closed. If the filesystem has no OFD locks, libostree falls back to flock(), and so does this module.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compose import fs
from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.repo import Repo

_F_OFD_SETLK = 37  # linux/fcntl.h; the module fcntl has it only if the C library does
_POLL = 0.05  # seconds
LOCK = ".lock"
SUMMARY_LOCK = ".summary.lock"
"""Held, exclusively, by those who move refs, or write the summary, superblocks of deltas or indexes of deltas. LOCK is taken
first."""


def try_lock(fd: int, *, exclusive: bool) -> bool:
    """Lock an open file, until it is closed; False if somebody else holds the lock. An exclusive lock needs write access, a
    shared one read access. Raises OSError."""
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    try:
        fcntl.fcntl(fd, _F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))
        return True
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno != errno.EINVAL:
            raise
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(repo: Repo, reporter: Reporter, *, exclusive: bool, name: str = LOCK) -> Iterator[None]:
    """Hold a lock in the block, unless the config says core.locking=false. name: of the lock file in the repository, which is
    created.

    Raises RepositoryError if somebody else holds the lock for longer than core.lock-timeout-secs, StorageError if the file
    cannot be created.
    """
    if not repo.config.locking:
        yield
        return
    path, timeout = repo.path, repo.config.lock_timeout
    with fs.storage_errors(os.path.join(path, name)):
        try:
            # O_NOFOLLOW: a malicious repository's symlink could create a file elsewhere
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o660, dir_fd=repo.fd)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR):
                raise
            what = "a symlink" if error.errno == errno.ELOOP else "a directory"
            raise RepositoryError(f"{os.path.join(path, name)} is {what}, not a lock file", hint="remove it") from None

    def take() -> bool:
        with fs.storage_errors(os.path.join(path, name)):
            return try_lock(fd, exclusive=exclusive)

    try:
        begun = time.monotonic()
        reported = False
        while not take():
            waited = time.monotonic() - begun
            if timeout >= 0 and waited >= timeout:
                raise RepositoryError(
                    f"{path} is locked by {_holders(fd)}; gave up after {timeout} s",
                    hint="wait until the prune or commit has ended, or raise core.lock-timeout-secs",
                )
            if not reported and waited > 1:
                reporter.info(f"Waiting for the lock of {path}, held by {_holders(fd)}")
                reported = True
            time.sleep(_POLL)
        yield
    finally:
        os.close(fd)


@contextmanager
def locked_to_read(repo: Repo, reporter: Reporter) -> Iterator[None]:
    """Hold the lock, shared, so that no prune runs; without write access, do not. Raises RepositoryError as locked() does."""
    with contextlib.ExitStack() as stack:
        # it may be another user's, even in a directory of this one
        place = LOCK if os.access(LOCK, os.F_OK, dir_fd=repo.fd) else "."
        if os.access(place, os.W_OK, dir_fd=repo.fd):
            stack.enter_context(locked(repo, reporter, exclusive=False))
        yield


def _holders(fd: int) -> str:
    """The programs that hold a lock on an open file, as far as /proc shows them: "ostree (process 123)"."""
    mine = os.fstat(fd)
    found: dict[str, None] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        # the process may end meanwhile, or be another user's
        with contextlib.suppress(OSError):
            for each in (process / "fd").iterdir():
                status = each.stat()
                if (status.st_dev, status.st_ino) != (mine.st_dev, mine.st_ino):
                    continue
                if "lock:" in (process / "fdinfo" / each.name).read_text():
                    # the kernel truncates names, perhaps within a character
                    program = (process / "comm").read_text(errors="replace").strip()
                    found[f"{program} (process {process.name})"] = None
    return ", ".join(found) or "another process"
