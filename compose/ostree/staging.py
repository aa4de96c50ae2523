"""Staging directories: where a transaction's objects lie until all of them are complete and on disk.

    tmp/staging-BOOTID-XXXXXX/ab/cdef….EXT     objects, as they will be named in objects/
    tmp/staging-BOOTID-XXXXXX-lock             OFD lock, held while the transaction lives

Names and locks are libostree's (ostree-repo.c, _ostree_repo_allocate_tmpdir), so each removes what the other left.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compose import fs, syscalls
from compose.ostree.lock import try_lock
from compose.ostree.refs import TEMPORARY_PREFIX

_PREFIX = "staging-"
_LOCK_SUFFIX = "-lock"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_TMP_EXPIRY = 86400
"""Seconds after which a file left in tmp/ belongs to nobody: libostree's core.tmp-expiry-secs."""


@dataclass(frozen=True, slots=True)
class Staging:
    """path: absolute. lock: descriptor of its lock."""

    path: str
    lock: int


@contextlib.contextmanager
def staging_directory(repo_path: str) -> Iterator[Staging]:
    """A new staging directory, removed at the end with all that is still in it. Raises StorageError."""
    with fs.storage_errors(repo_path):
        path, lock = _locked_name(os.path.join(repo_path, "tmp"))
    try:
        with fs.storage_errors(repo_path):
            os.mkdir(path, 0o775)
        yield Staging(path, lock)
    finally:
        # what cannot be removed now is a leftover for the next transaction
        with contextlib.suppress(OSError):
            fs.remove_tree(path)
            os.unlink(path + _LOCK_SUFFIX)
        os.close(lock)


def _locked_name(top: str) -> tuple[str, int]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    while True:
        suffix = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(6))
        path = os.path.join(top, f"{_PREFIX}{boot}-{suffix}")
        try:
            lock = os.open(path + _LOCK_SUFFIX, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        # another transaction may take it for a leftover in the moment before it is locked
        if try_lock(lock, exclusive=True) and os.fstat(lock).st_nlink:
            return path, lock
        os.close(lock)


def remove_leftovers(repo_path: str) -> None:
    """Remove staging directories whose lock nobody holds, for their transaction was killed, and old temporary files."""
    top = os.path.join(repo_path, "tmp")
    names = os.listdir(top)
    staged = {name.removesuffix(_LOCK_SUFFIX) for name in names if name.startswith(_PREFIX)}
    with fs.storage_errors(top):
        for name in staged:
            path = os.path.join(top, name)
            try:
                lock = os.open(path + _LOCK_SUFFIX, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except PermissionError:
                # of another user of the repository, under way or killed: who may open the lock removes it
                continue
            try:
                if try_lock(lock, exclusive=True):
                    fs.remove_tree(path)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path + _LOCK_SUFFIX)
            finally:
                os.close(lock)
        for name in names:
            if name.startswith(TEMPORARY_PREFIX):
                path = os.path.join(top, name)
                with contextlib.suppress(FileNotFoundError):
                    if os.lstat(path).st_mtime < time.time() - _TMP_EXPIRY:
                        os.unlink(path)


def publish_objects(staging: Staging, objects: int, *, fsync: bool) -> None:
    """Move everything staged into the objects directory open at `objects`, commits last.

    Whoever finds a commit object then finds all that it names. An object that is there already is left as it is: its
    name is the checksum of what it says. Raises StorageError, naming the directory that refuses, OSError.
    """
    source = os.open(staging.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        staged = {each: os.listdir(os.path.join(staging.path, each)) for each in os.listdir(staging.path)}
        for directory in sorted(staged, key=lambda each: any(_is_commit(name) for name in staged[each])):
            # one that root made once, say, in another user's repository
            with fs.storage_errors(fs.full_path(directory, objects)):
                _move(directory, staged[directory], source, objects)
        if fsync:
            for directory in staged:
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=objects)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            os.fsync(objects)
    finally:
        os.close(source)


def _move(directory: str, names: list[str], source: int, objects: int) -> None:
    # in a new repository one rename does for all objects of the directory
    if syscalls.rename_noreplace(directory, directory, src_dir_fd=source, dst_dir_fd=objects):
        return
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o777, dir_fd=objects)
    for name in sorted(names, key=_is_commit):
        path = f"{directory}/{name}"
        if name.endswith(".commitmeta"):
            # its name is the commit's checksum, not its own: it holds what was there, and more
            os.rename(path, path, src_dir_fd=source, dst_dir_fd=objects)
        else:
            syscalls.rename_noreplace(path, path, src_dir_fd=source, dst_dir_fd=objects)


def _is_commit(name: str) -> bool:
    return name.endswith(".commit")


def write_staged(staging: Staging, name: str, data: bytes, *, fsync: bool = False) -> None:
    """Write a small object. name: "ab/cdef….EXT". fsync: now, for nobody syncs all of them later. Raises StorageError."""
    path = os.path.join(staging.path, name)
    with fs.storage_errors(staging.path):
        try:
            fd = os.open(path, _CREATE, 0o644)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o777)
            fd = os.open(path, _CREATE, 0o644)
        try:
            # what clients and web servers read: whatever the umask, as libostree
            os.fchmod(fd, 0o644)
            fs.write_all(fd, data)
            if fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
