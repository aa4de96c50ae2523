"""Directories in which something is made before it gets its name."""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from compose import fs


@contextmanager
def directory_beside(path: str, prefix: str) -> Iterator[str]:
    """Create a private directory beside a path, so that what is whole in it can be renamed to the path.

    It is removed at the end, and those of killed processes at the start. prefix: begins the names of these directories, and of
    nothing else. Raises StorageError.
    """
    parent = os.path.dirname(os.path.abspath(path))
    with ExitStack() as stack:
        try:
            # a directory that may not be listed can be written all the same
            with suppress(PermissionError):
                _remove_unlocked(parent, prefix)
            # it has its name when it is locked, so that no other process takes it for a leftover
            unnamed = tempfile.mkdtemp(prefix=f".new{prefix}", dir=parent)
            stack.callback(fs.remove_tree, unnamed)
            directory = os.path.join(parent, f"{prefix}{secrets.token_hex(8)}")
            stack.callback(fs.remove_tree, directory)
            lock = os.open(unnamed, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            _try_lock(lock)
            os.rename(unnamed, directory)
        except OSError as error:
            raise fs.storage_error(path, error) from error
        yield directory


def _remove_unlocked(parent: str, prefix: str) -> None:
    top = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(top):
            if name.startswith(prefix):
                # what cannot be opened or removed is another user's
                with suppress(OSError):
                    _remove_if_unlocked(top, name)
    finally:
        os.close(top)


def _remove_if_unlocked(parent: int, name: str) -> None:
    lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if _try_lock(lock):
            fs.remove_at(parent, name)
    finally:
        os.close(lock)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # locked already; or a network filesystem that locks no directories, where leftovers stay
        return False
    return True
