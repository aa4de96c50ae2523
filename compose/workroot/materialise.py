"""A tree onto disk, for programs to look at: the overlay's lower layer, which nothing ever writes to.

Ordinary files are hard links to the blobs' own inodes. Whatever is not plain (setuid, private, capabilities, another
owner) is a copy, 0600 and root's: its true owner and mode are applied in the upper layer, once they are known.
"""

from __future__ import annotations

import os

from compose import fs
from compose.blobs import BlobStore
from compose.tree import Entry, Tree

MOUNT_POINTS = ("dev", "proc", "sys", "run", "tmp", "var/tmp")
"""Directories that the sandbox mounts something on; made when the tree has nothing there."""


def is_plain(entry: Entry) -> bool:
    """Does the inode that materialise() makes show everything the entry says?"""
    if entry.uid or entry.gid or any(name == b"security.capability" for name, _ in entry.xattrs):
        return False
    if entry.is_symlink:
        return True
    if entry.is_dir:
        return entry.permissions == 0o755
    return entry.permissions in (0o644, 0o755)


def materialise(tree: Tree, store: BlobStore, directory: str) -> None:
    """Make the tree below an existing, empty, private directory. Raises StorageError."""
    with fs.storage_errors(directory):
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchmod(top, 0o755)
            groups: dict[str, str] = {}
            for path, entry in tree.walk():
                if path:
                    _make(path, entry, store, top, groups)
            for path in MOUNT_POINTS:
                if path not in tree and tree.is_dir(path.rpartition("/")[0]):
                    os.mkdir(path, 0o755, dir_fd=top)
        finally:
            os.close(top)


def _make(path: str, entry: Entry, store: BlobStore, top: int, groups: dict[str, str]) -> None:
    if entry.is_dir:
        os.mkdir(path, 0o755, dir_fd=top)
        return
    if entry.is_symlink:
        assert entry.target is not None
        os.symlink(entry.target, path, dir_fd=top)
        return
    assert entry.blob is not None
    if entry.link and (first := groups.setdefault(entry.link, path)) != path:
        os.link(first, path, src_dir_fd=top, dst_dir_fd=top, follow_symlinks=False)
        return
    # a hard-link group's members must share an inode among themselves only, so they are a copy too
    linkable = is_plain(entry) and not entry.link
    if linkable and (entry.blob.mode, entry.blob.mtime) == (entry.permissions, entry.mtime):
        try:
            os.link(store.path(entry.blob), path, dst_dir_fd=top, follow_symlinks=False)
            return
        except OSError:
            # another filesystem, or too many links to one inode: a copy does
            if not store.has(entry.blob):
                raise
    mode = entry.permissions if is_plain(entry) else 0o600
    source = store.open(entry.blob)
    try:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=top)
        try:
            fs.clone_or_copy(source, target)
            os.fchmod(target, mode)
            os.utime(target, (entry.mtime, entry.mtime))
        finally:
            os.close(target)
    finally:
        os.close(source)
