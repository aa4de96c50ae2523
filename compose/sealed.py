"""What is remembered in one file: a line that names its format, the sha256 of the rest, the rest.

A file that is not as it was written (cut short, damaged, of another version, somebody else's) reads as absent: what it held
is found out anew.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from compose import fs

_DIGEST = 32
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_sealed(path: str, kind: bytes) -> memoryview | None:
    """What write_sealed() wrote there with the same kind, None when there is nothing such."""
    try:
        fd = os.open(path, _READ)
        try:
            status = os.fstat(fd)
            ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
            with open(fd, "rb", closefd=False) as file:
                data = memoryview(file.read() if ours else b"")
        finally:
            os.close(fd)
    except OSError:
        return None
    start = len(kind) + _DIGEST
    if data[: len(kind)] != kind or hashlib.sha256(data[start:]).digest() != data[len(kind) : start]:
        return None
    return data[start:]


def write_sealed(path: str, kind: bytes, data: bytes) -> None:
    """Replace the file. Not synced: what a power failure leaves of it is not read. Raises StorageError."""
    try:
        fs.atomic_write(path, kind + hashlib.sha256(data).digest() + data, 0o600, fsync=False)
    except OSError as error:
        raise fs.storage_error(path, error) from error


def forget_oldest(directory: str, kept: int) -> None:
    """Remove all but so many files of a directory, those written or touched last."""
    times = {}
    for path in Path(directory).iterdir():
        # another compose may be at it too
        with suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime
    for path in sorted(times, key=times.__getitem__, reverse=True)[kept:]:
        with suppress(FileNotFoundError):
            path.unlink()
