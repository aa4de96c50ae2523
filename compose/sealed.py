"""Cache files with a checksum: a line that names the format, the sha256 of the rest, the rest.

A file that is truncated, damaged, of another version or another user's counts as missing, and its content is computed again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from compose import fs

_DIGEST = 32


def read_sealed(path: str, kind: bytes) -> memoryview | None:
    """Read the data that write_sealed() wrote with the same kind; None if there is no such file, or it is not trusted."""
    try:
        with fs.open_regular(path, follow_symlinks=False) as file:
            status = os.fstat(file.fileno())
            ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
            data = memoryview(file.read() if ours else b"")
    except OSError:
        return None
    start = len(kind) + _DIGEST
    if data[: len(kind)] != kind or hashlib.sha256(data[start:]).digest() != data[len(kind) : start]:
        return None
    return data[start:]


def write_sealed(path: str, kind: bytes, data: bytes) -> None:
    """Write or replace a file. kind: line that names the format and its version. It is not synced, because a file truncated by
    a power failure counts as missing. Raises StorageError."""
    try:
        fs.atomic_write(path, kind + hashlib.sha256(data).digest() + data, 0o600, fsync=False)
    except OSError as error:
        raise fs.storage_error(path, error) from error


def forget_oldest(directory: str, kept: int) -> None:
    """Remove all files of a directory but the `kept` ones with the latest mtimes. Raises OSError."""
    times = {}
    for path in Path(directory).iterdir():
        # another compose may do the same at this moment
        with suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime
    for path in sorted(times, key=times.__getitem__, reverse=True)[kept:]:
        with suppress(FileNotFoundError):
            path.unlink()
