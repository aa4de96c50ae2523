"""Directories in which something is made before it gets its name, or for a while; those of killed processes are removed."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from compose import fs
from compose.errors import StorageError


@contextmanager
def directory_beside(path: str, prefix: str) -> Iterator[str]:
    """Create a private directory beside a path, so that what is whole in it can be renamed to the path.

    It is removed at the end, and those of killed processes at the start. prefix: begins the names of these directories, and of
    nothing else. Raises StorageError.
    """
    with ExitStack() as stack:
        try:
            directory = _made(os.path.dirname(os.path.abspath(path)), prefix, stack)
        except OSError as error:
            raise fs.storage_error(path, error) from error
        yield directory


def remove_leftovers(path: str, prefix: str) -> None:
    """Remove what directory_beside() made for processes that were killed, where that is possible."""
    with suppress(OSError):
        _remove_unlocked(os.path.dirname(os.path.abspath(path)), prefix)


@contextmanager
def temporary_directory(prefix: str, place: str | None = None) -> Iterator[str]:
    """Create a private temporary directory, removed at the end, and those of killed processes at the start.

    prefix: as of directory_beside(). place: its parent, by default TMPDIR or /tmp. Raises StorageError if it cannot be created.
    """
    import tempfile  # late, because it imports more modules than this needs otherwise

    with ExitStack() as stack:
        try:
            directory = _made(place if place is not None else tempfile.gettempdir(), prefix, stack)
        except OSError as error:
            raise StorageError(
                f"cannot create a temporary directory: {error.strerror}",
                hint="set TMPDIR to a writable directory",
            ) from error
        yield directory


def _made(parent: str, prefix: str, stack: ExitStack) -> str:
    """Create a locked directory, which the stack removes before it unlocks it. Raises OSError."""
    # a directory that may not be listed can be written all the same
    with suppress(PermissionError):
        _remove_unlocked(parent, prefix)
    while True:
        directory = os.path.join(parent, prefix + os.urandom(8).hex())
        os.mkdir(directory, 0o700)
        # before it is locked, another process may take it for a leftover
        with suppress(FileNotFoundError):
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if _may_keep(lock) and _is_at(directory, lock):
                stack.callback(os.close, lock)
                stack.callback(_remove, directory)
                return directory
            os.close(lock)


def _remove(directory: str) -> None:
    """If this fails, the next process removes the rest."""
    with suppress(OSError):
        fs.remove_tree(directory)


def _may_keep(fd: int) -> bool:
    """Lock a new directory; False if another process has taken it for a leftover."""
    try:
        return _try_lock(fd)
    except OSError:
        # a filesystem that locks no directories, where nobody can take it
        return True


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _remove_unlocked(parent: str, prefix: str) -> None:
    # the whole name, because anybody may have directories in /tmp
    ours = re.compile(f"{re.escape(prefix)}[0-9a-f]{{16}}")
    top = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(top):
            if ours.fullmatch(name):
                # what cannot be opened or removed is another user's
                with suppress(OSError):
                    _remove_if_unlocked(top, name)
    finally:
        os.close(top)


def _remove_if_unlocked(parent: int, name: str) -> None:
    lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        # root could remove those of others, who may not have made them this way
        if os.fstat(lock).st_uid == os.geteuid() and _try_lock(lock):
            fs.remove_at(parent, name)
    finally:
        os.close(lock)


def _try_lock(fd: int) -> bool:
    """Lock an open directory; False if it is locked already. Raises OSError on a filesystem that locks no directories, where
    leftovers stay."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
