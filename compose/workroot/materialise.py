"""Writes a tree to disk for programs to see: the overlay's lower layer, which programs never write to.

Ordinary files are hard links to the blobs' own inodes. Anything not plain (setuid, private, with capabilities or another
owner) is a copy owned by root and never setuid; its true owner and mode are applied in the upper layer, once they are known.
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
"""Directories that the sandbox mounts something on; created if the tree has nothing there."""

OVERLAY = b"trusted.overlay.", b"user.overlay."
"""Prefixes of the xattrs that overlays use for themselves (kernel documentation, filesystems/overlayfs)."""

_NO_TIME = 0, 0
"""Times of directories and symlinks, so that no program's output depends on when a package's directory was made."""

_PLAIN = frozenset({stat.S_IFREG | 0o644, stat.S_IFREG | 0o755, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777})


def kept_xattrs(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    """The xattrs that a live root shows."""
    return tuple(pair for pair in entry.xattrs if is_kept(pair[0]))


def is_kept(xattr: bytes) -> bool:
    """Does a live root show an xattr, and the tree keep it when a program sets it? Capabilities and user.*.

    Labels are computed later, from paths, and the overlay would take overlay xattrs for its own.
    """
    return xattr == b"security.capability" or (xattr.startswith(b"user.") and not xattr.startswith(OVERLAY))


def as_materialised(entry: Entry) -> Entry:
    """The entry as materialise() writes it: the same if plain, otherwise owned by root and without special modes or xattrs."""
    if is_plain(entry) or (entry.mode in _PLAIN and not (entry.uid or entry.gid or kept_xattrs(entry))):
        return entry
    if entry.is_symlink:
        mode = entry.mode
    elif entry.is_dir:
        mode = stat.S_IFDIR | 0o755
    else:
        # scriptlets such as %pre may run it already; setuid and write permissions have to wait for the owner
        mode = stat.S_IFREG | (entry.permissions & 0o755) | 0o600
    return replace(entry, mode=mode, uid=0, gid=0, xattrs=())


def is_plain(entry: Entry) -> bool:
    """Does materialise() certainly write the entry as it is? Entries with xattrs are not plain, though it may."""
    return entry.mode in _PLAIN and not (entry.uid or entry.gid or entry.xattrs)


def materialise(
    tree: Tree, store: BlobStore, directory: str, *, link_blobs: bool = True, shown: Tree | None = None
) -> None:
    """Make an existing private directory show the tree, keeping what it shows already and removing what it should not.

    directory: used for nothing else, not a symlink. link_blobs: allow hard links to blobs; False without an overlay, where
    programs write to these files. shown: the tree it is known to show, None to scan the disk. Raises StorageError.
    """
    with fs.storage_errors(directory):
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            kept = _keep_scanned(tree, store, directory, top) if shown is None else _keep_known(tree, shown, top)
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
            # last, because font caches and the like record these times
            for path in directories:
                # regardless of the caller's umask
                os.chmod(path, 0o755, dir_fd=top)
                os.utime(path, _NO_TIME, dir_fd=top, follow_symlinks=False)
        finally:
            os.close(top)


def _is_mount_point(path: str, tree: Tree) -> bool:
    return path in MOUNT_POINTS and path not in tree and tree.is_dir(parent_of(path))


def _keep_known(tree: Tree, shown: Tree, top: int) -> set[str]:
    """Remove what differs between the two trees; return the paths that stay."""
    kept = {""}
    for path, before in shown.walk():
        if not path or parent_of(path) not in kept:
            continue
        now = tree.get(path)
        # the inode of a hard-link group is shared by its members only
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


def _keep_scanned(tree: Tree, store: BlobStore, directory: str, top: int) -> set[str]:
    """Remove what is not as the tree has it; return the paths that stay.

    Only the disk is trusted, because an earlier compose may have been killed. Of files, only hard links to their blob stay:
    without reading a copy, nobody can tell what it is a copy of.
    """
    kept = {""}
    gone = set()
    for path, status in sorted(fs.walk(directory), key=itemgetter(0)):
        if not path:
            continue
        if parent_of(path) in gone:
            gone.add(path)
        elif _matches(path, status, tree, store, top):
            kept.add(path)
        else:
            gone.add(path)
            try:
                fs.remove_at(top, path)
            except PermissionError:
                # one of an ordinary user's subordinate ids owns it
                identity.remove_tree(os.path.join(directory, path))
    return kept


def _matches(path: str, status: os.stat_result, tree: Tree, store: BlobStore, top: int) -> bool:
    entry = tree.get(path)
    if status.st_uid != os.geteuid():
        return False
    if entry is None or entry.is_dir:
        return stat.S_ISDIR(status.st_mode) and (entry is not None or _is_mount_point(path, tree))
    if entry.blob is not None:
        return _may_link(entry) and store.is_inode(entry.blob, status)
    is_link = stat.S_ISLNK(status.st_mode) and status.st_mtime == 0
    return is_link and os.readlink(path, dir_fd=top) == entry.target


def _may_link(entry: Entry) -> bool:
    """May a file be a hard link to its blob? Not in a hard-link group, whose inode is shared by its members only."""
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
        # on another filesystem, or with too many links to the inode, fall back to a copy
        with contextlib.suppress(OSError):
            os.link(store.path(entry.blob), path, dst_dir_fd=top, follow_symlinks=False)
            return
    make_file(path, entry, store, top, as_materialised(entry).permissions)


def make_file(path: str, entry: Entry, store: BlobStore, directory: int, permissions: int) -> None:
    """Copy an entry's content, with its mtime, to a new file relative to an open directory."""
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
