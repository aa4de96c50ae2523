"""Staging directories, which contain the objects of a transaction until all of them are complete and on disk.

    tmp/compose-staging-XXXXXX/ab/cdef….EXT     objects, with the same names as in objects/
    tmp/compose-staging-XXXXXX-lock             OFD lock, held as long as the transaction is under way

Not named as libostree's are (staging-BOOTID-XXXXXX): whatever is in one that nobody holds, libostree's next transaction takes
for its own and publishes (ostree-repo.c, _ostree_repo_allocate_tmpdir()), and a killed transaction leaves unfinished objects
here. Those of libostree are left to it, which resumes an interrupted pull from them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import string
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from compose import fs, syscalls
from compose.ostree.lock import try_lock
from compose.ostree.refs import TEMPORARY_PREFIX

_PREFIX = f"{TEMPORARY_PREFIX}staging-"
_LOCK_SUFFIX = "-lock"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_TMP_EXPIRY = 86400
"""Age in seconds from which a temporary file in tmp/ is a leftover: the default of libostree's core.tmp-expiry-secs."""


@dataclass(frozen=True, slots=True)
class Staging:
    """A staging directory. path: absolute. lock: descriptor of its lock."""

    path: str
    lock: int


@contextlib.contextmanager
def staging_directory(repo_path: str) -> Iterator[Staging]:
    """Create a staging directory, which is removed at the end of the context. Raises StorageError."""
    with fs.storage_errors(repo_path):
        path, lock = _locked_name(os.path.join(repo_path, "tmp"))
    try:
        with fs.storage_errors(repo_path):
            os.mkdir(path, 0o775)
        yield Staging(path, lock)
    finally:
        # if this fails, the next transaction removes it
        with contextlib.suppress(OSError):
            fs.remove_tree(path)
            os.unlink(path + _LOCK_SUFFIX)
        os.close(lock)


def _locked_name(top: str) -> tuple[str, int]:
    while True:
        suffix = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(6))
        path = os.path.join(top, f"{_PREFIX}{suffix}")
        try:
            lock = os.open(path + _LOCK_SUFFIX, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        # before it was locked, another transaction may have taken it for a leftover
        if try_lock(lock, exclusive=True) and os.fstat(lock).st_nlink:
            return path, lock
        os.close(lock)


def remove_leftovers(repo_path: str) -> None:
    """Remove staging directories whose lock nobody holds, because their transaction was killed, and old temporary files. Makes
    tmp if there is none, as ostree does. Raises StorageError."""
    top = os.path.join(repo_path, "tmp")
    with fs.storage_errors(top):
        os.makedirs(top, mode=0o775, exist_ok=True)
        names = os.listdir(top)
        staged = {name.removesuffix(_LOCK_SUFFIX) for name in names if name.startswith(_PREFIX)}
        for name in staged:
            path = os.path.join(top, name)
            try:
                lock = os.open(path + _LOCK_SUFFIX, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except PermissionError:
                # another user's, under way or killed; who may open the lock will remove it
                continue
            try:
                if try_lock(lock, exclusive=True):
                    fs.remove_tree(path)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path + _LOCK_SUFFIX)
            finally:
                os.close(lock)
        for name in names:
            if name.startswith(TEMPORARY_PREFIX) and not name.startswith(_PREFIX):
                path = os.path.join(top, name)
                with contextlib.suppress(FileNotFoundError):
                    if os.lstat(path).st_mtime < time.time() - _TMP_EXPIRY:
                        os.unlink(path)


def publish_objects(staging: Staging, objects: int, *, fsync: bool) -> None:
    """Move all staged objects into the objects directory, commits last. objects: its descriptor. fsync: have the others on the
    disk before the commits.

    Whoever finds a commit then also finds its objects. Objects that exist already are kept, because their contents are the
    same, except for detached metadata, which is replaced. Raises StorageError with the directory that cannot be written, and
    OSError.
    """
    source = os.open(staging.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        staged = {each: os.listdir(os.path.join(staging.path, each)) for each in os.listdir(staging.path)}
        commits = {directory: list(filter(_is_commit, names)) for directory, names in staged.items()}
        for directory, names in staged.items():
            with _refusals(directory, objects):
                # in a new repository one rename moves all objects of the directory
                if commits[directory] or not _move(directory, source, objects):
                    _move_each(directory, itertools.filterfalse(_is_commit, names), source, objects)
        if fsync:
            _sync(staged, objects)
        last = {directory: names for directory, names in commits.items() if names}
        for directory, names in last.items():
            with _refusals(directory, objects):
                _move_each(directory, names, source, objects)
        if fsync:
            _sync(last, objects)
    finally:
        os.close(source)


def _refusals(directory: str, objects: int) -> contextlib.AbstractContextManager[None]:
    """A directory may not be writable, for example one that root created in another user's repository."""
    return fs.storage_errors(fs.full_path(directory, objects))


def _move(name: str, source: int, objects: int) -> bool:
    return syscalls.rename_noreplace(name, name, src_dir_fd=source, dst_dir_fd=objects)


def _move_each(directory: str, names: Iterable[str], source: int, objects: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o777, dir_fd=objects)
    for name in names:
        path = f"{directory}/{name}"
        if name.endswith(".commitmeta"):
            # named by the checksum of its commit, not its own
            os.rename(path, path, src_dir_fd=source, dst_dir_fd=objects)
        else:
            _move(path, source, objects)


def _sync(directories: Iterable[str], objects: int) -> None:
    for directory in directories:
        fs.sync_directory(directory, dir_fd=objects)
    os.fsync(objects)


def _is_commit(name: str) -> bool:
    return name.endswith(".commit")


def write_staged(staging: Staging, name: str, data: bytes, *, fsync: bool = False) -> None:
    """Write an object at once. name: from object_name(). fsync: is needed unless the filesystem is synced later. Raises
    StorageError."""
    path = os.path.join(staging.path, name)
    with fs.storage_errors(staging.path):
        try:
            fd = os.open(path, _CREATE, 0o644)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o777)
            fd = os.open(path, _CREATE, 0o644)
        try:
            # clients and web servers must be able to read it, whatever the umask; as libostree does
            os.fchmod(fd, 0o644)
            fs.write_all(fd, data)
            if fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
