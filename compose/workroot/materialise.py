"""A tree onto disk, for programs to look at: the overlay's lower layer, which nothing ever writes to.

Ordinary files are hard links to the blobs' own inodes. Whatever is not plain (setuid, private, capabilities, another
owner) is a copy and root's, never setuid: its true owner and mode are applied in the upper layer, once they are known.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import replace
from operator import itemgetter

from compose import fs
from compose.blobs import BlobStore
from compose.sandbox import identity
from compose.tree import Entry, Tree, parent_of

MOUNT_POINTS = ("dev", "proc", "sys", "run", "tmp", "var/tmp")
"""Directories that the sandbox mounts something on; made when the tree has nothing there."""

OVERLAY = b"trusted.overlay.", b"user.overlay."
"""Beginnings of the names under which overlays keep their notes (kernel documentation, filesystems/overlayfs)."""

_NO_TIME = 0, 0
"""Of directories and symlinks: what a program makes does not hang on when a package's directory was made."""

_PLAIN = frozenset({stat.S_IFREG | 0o644, stat.S_IFREG | 0o755, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777})


def kept_xattrs(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    """The xattrs that a live root shows: capabilities and user.*. Labels are computed later, from paths; what is an overlay's
    would be taken for its own."""
    return tuple(
        (name, value)
        for name, value in entry.xattrs
        if name == b"security.capability" or (name.startswith(b"user.") and not name.startswith(OVERLAY))
    )


def as_materialised(entry: Entry) -> Entry:
    """What materialise() makes of an entry: the same, or root's and private when it is not plain."""
    if is_plain(entry) or (entry.mode in _PLAIN and not (entry.uid or entry.gid or kept_xattrs(entry))):
        return entry
    if entry.is_symlink:
        mode = entry.mode
    elif entry.is_dir:
        mode = stat.S_IFDIR | 0o755
    else:
        # %pre and its like may run it already; setuid and who may write wait for the owner
        mode = stat.S_IFREG | (entry.permissions & 0o755) | 0o600
    return replace(entry, mode=mode, uid=0, gid=0, xattrs=())


def is_plain(entry: Entry) -> bool:
    """Is it surely as materialise() makes it? What has xattrs may be too."""
    return entry.mode in _PLAIN and not (entry.uid or entry.gid or entry.xattrs)


def materialise(
    tree: Tree, store: BlobStore, directory: str, *, link_blobs: bool = True, shown: Tree | None = None
) -> None:
    """Make an existing private directory show the tree. What it shows already, left by another compose, is not made again;
    what it should not show is removed.

    directory: made for this and nothing else, no symlink. link_blobs: files may be hard links to blobs. False where there is
    no overlay and programs write to what is made here. shown: the tree that it shows for certain, None to see what is there.
    Raises StorageError.
    """
    with fs.storage_errors(directory):
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            kept = _found(tree, store, directory, top) if shown is None else _left(tree, shown, top)
            groups: dict[str, str] = {}
            directories = []
            for path, entry in tree.walk():
                if path not in kept:
                    _make(path, entry, store, top, groups, link_blobs)
                if entry.is_dir:
                    directories.append(path or ".")
            for path in MOUNT_POINTS:
                if _is_mount_point(path, tree):
                    if path not in kept:
                        os.mkdir(path, 0o755, dir_fd=top)
                    directories.append(path)
            # when all is made: font caches and their like remember what they find here
            for path in directories:
                # whatever the caller's umask made of it
                os.chmod(path, 0o755, dir_fd=top)
                os.utime(path, _NO_TIME, dir_fd=top, follow_symlinks=False)
        finally:
            os.close(top)


def _is_mount_point(path: str, tree: Tree) -> bool:
    return path in MOUNT_POINTS and path not in tree and tree.is_dir(parent_of(path))


def _left(tree: Tree, shown: Tree, top: int) -> set[str]:
    """What is there and stays: the same in both trees; all else is removed."""
    kept = {""}
    for path, before in shown.walk():
        if not path or parent_of(path) not in kept:
            continue
        now = tree.get(path)
        # an inode of a group is shared by its members only
        if now is not None and ((now.is_dir and before.is_dir) or (now == before and not now.link)):
            kept.add(path)
        else:
            fs.remove_at(top, path)
    for path in MOUNT_POINTS:
        if _is_mount_point(path, shown) and parent_of(path) in kept:
            if _is_mount_point(path, tree):
                kept.add(path)
            else:
                fs.remove_at(top, path)
    return kept


def _found(tree: Tree, store: BlobStore, directory: str, top: int) -> set[str]:
    """What is there as it should be; all else is removed. Nothing is believed but what the disk says: a compose may have been
    killed here. Files are right when they are the blobs themselves: a copy does not tell of what."""
    kept = {""}
    gone = set()
    for path, status in sorted(fs.walk(directory), key=itemgetter(0)):
        if not path:
            continue
        if parent_of(path) in gone:
            gone.add(path)
        elif _is_right(path, status, tree, store, top):
            kept.add(path)
        else:
            gone.add(path)
            try:
                fs.remove_at(top, path)
            except PermissionError:
                # one of an ordinary user's subordinate ids owns it
                identity.remove_tree(os.path.join(directory, path))
    return kept


def _is_right(path: str, status: os.stat_result, tree: Tree, store: BlobStore, top: int) -> bool:
    entry = tree.get(path)
    if status.st_uid != os.geteuid():
        return False
    if entry is None or entry.is_dir:
        return stat.S_ISDIR(status.st_mode) and (entry is not None or _is_mount_point(path, tree))
    if entry.blob is not None:
        return _may_link(entry) and store.is_inode(entry.blob, status)
    as_it_was = stat.S_ISLNK(status.st_mode) and status.st_mtime == 0
    return as_it_was and os.readlink(path, dir_fd=top) == entry.target


def _may_link(entry: Entry) -> bool:
    """May a file be the blob itself? The inode of a hard-link group is shared by its members only."""
    assert entry.blob is not None
    shown = as_materialised(entry)
    return not entry.link and (entry.blob.mode, entry.blob.mtime) == (shown.permissions, entry.mtime)


def _make(path: str, entry: Entry, store: BlobStore, top: int, groups: dict[str, str], link_blobs: bool) -> None:
    if entry.is_dir:
        os.mkdir(path, 0o755, dir_fd=top)
        return
    if entry.is_symlink:
        assert entry.target is not None
        os.symlink(entry.target, path, dir_fd=top)
        os.utime(path, _NO_TIME, dir_fd=top, follow_symlinks=False)
        return
    assert entry.blob is not None
    if entry.link and (first := groups.setdefault(entry.link, path)) != path:
        os.link(first, path, src_dir_fd=top, dst_dir_fd=top, follow_symlinks=False)
        return
    if link_blobs and _may_link(entry):
        # another filesystem, or too many links to one inode: a copy does
        with contextlib.suppress(OSError):
            os.link(store.path(entry.blob), path, dst_dir_fd=top, follow_symlinks=False)
            return
    make_file(path, entry, store, top, as_materialised(entry).permissions)


def make_file(path: str, entry: Entry, store: BlobStore, directory: int, permissions: int) -> None:
    """Make a copy of an entry's content, with its mtime, at a path below an open directory."""
    assert entry.blob is not None
    source = store.open(entry.blob)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(path, flags, 0o600, dir_fd=directory)
        try:
            fs.clone_or_copy(source, target)
            os.fchmod(target, permissions)
            os.utime(target, (entry.mtime, entry.mtime))
        finally:
            os.close(target)
    finally:
        os.close(source)
