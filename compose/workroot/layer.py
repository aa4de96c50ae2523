"""Reads changes from disk: from the upper layer of an overlay, or by comparing a whole root with its earlier state.

Runs in the namespaces that wrote the files, since owners and capabilities may read differently elsewhere. In an upper layer, a
character device 0:0 (whiteout) marks a deletion, and an xattr an opaque directory, which hides the one below (kernel
documentation, filesystems/overlayfs).
"""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from compose import fs
from compose.blobs import BlobStore
from compose.errors import ScriptError
from compose.tree import Entry, join
from compose.workroot.materialise import is_kept

_ACL = ("system.posix_acl_access", "system.posix_acl_default")

Stamp = tuple[int, int, int, int, int]
"""(inode, ctime in ns, mode, uid, gid) of a path. The ctime of a directory, which changes with every entry made or removed, is
replaced by a number: its lowest bit says whether the directory is opaque, the others are a checksum of xattrs and of what is
lost of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path as a program left it.

    entry: None if the path is gone. opaque: it is a directory that replaces the earlier one with everything in it. inode: of a
    regular file with several names, otherwise 0. lost: what the tree cannot represent here: "device", "fifo", "socket", "ACL",
    "xattr without a value", or "".
    """

    path: str
    entry: Entry | None = None
    opaque: bool = False
    inode: int = 0
    lost: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A directory that holds changes. lower: the layer below an upper layer, "" for a whole root. opaque: the xattr by which an
    upper layer's overlay marks opaque directories; a program may set the one that other overlays use."""

    directory: str
    lower: str
    opaque: str = ""

    def stamps(self) -> dict[str, Stamp]:
        """Stamp every path in the directory, to find changes by comparing two snapshots."""
        return {path: self._stamp(status, self._full(path)) for path, status in fs.walk(self.directory)}

    def changed(self, before: Mapping[str, Stamp], after: Mapping[str, Stamp]) -> tuple[str, ...]:
        """Paths made, changed or removed between two snapshots, sorted; directories that were only copied up do not count."""
        return tuple(
            sorted(
                path
                for path in before.keys() | after.keys()
                if before.get(path) != after.get(path) and (path in before or not self._copied_up(path, after[path]))
            )
        )

    def changes(
        self,
        paths: Iterable[str],
        before: Mapping[str, Stamp],
        after: Mapping[str, Stamp],
        store: BlobStore,
        *,
        writer: str,
    ) -> Iterator[Change]:
        """What became of paths between two snapshots; new contents are added to the store.

        writer: who changed them, for messages. Raises ScriptError for a sparse file that does not fit on the store's disk.
        """
        for path in paths:
            if path not in after:
                yield Change(path=path)
                continue
            change = self._change(path, os.lstat(self._full(path)), self._full(path), store, writer)
            # a directory that was opaque before hides nothing more now
            if change.opaque and path in before and _hiding(before[path]) == _hiding(after[path]):
                change = replace(change, opaque=False)
            yield change

    def _full(self, path: str) -> str:
        return join(self.directory, path) if path else self.directory

    def _copied_up(self, path: str, stamp: Stamp) -> bool:
        if not self.lower or not stat.S_ISDIR(stamp[2]):
            return False
        try:
            below = os.lstat(join(self.lower, path))
        except OSError:
            return False
        if (below.st_mode, below.st_uid, below.st_gid) != stamp[2:]:
            return False
        return not stamp[1]

    def _stamp(self, status: os.stat_result, full: str) -> Stamp:
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            # all whiteouts are hard links to one inode, whose ctime is that of the latest
            return 0, 0, status.st_mode, 0, 0
        ctime = status.st_ctime_ns
        if stat.S_ISDIR(status.st_mode):
            ctime = int(self._is_opaque(full))
            # absent, or not supported by this filesystem
            with contextlib.suppress(OSError):
                xattrs, lost = _xattrs(full)
                ctime |= zlib.crc32(repr((xattrs, lost)).encode()) << 1 if xattrs or lost else 0
        return status.st_ino, ctime, status.st_mode, status.st_uid, status.st_gid

    def _change(self, path: str, status: os.stat_result, full: str, store: BlobStore, writer: str) -> Change:
        mode = status.st_mode
        # a program cannot make one in an overlay, only in a whole root
        if self.lower and stat.S_ISCHR(mode) and status.st_rdev == 0:
            return Change(path=path)
        xattrs, lost = _xattrs(full)
        entry = Entry(mode=mode, uid=status.st_uid, gid=status.st_gid, xattrs=xattrs, mtime=int(status.st_mtime))
        if stat.S_ISDIR(mode):
            return Change(path=path, entry=entry, opaque=self._is_opaque(full), lost=lost)
        if stat.S_ISLNK(mode):
            return Change(path=path, entry=replace(entry, mode=stat.S_IFLNK | 0o777, target=os.readlink(full)))
        if stat.S_ISREG(mode):
            if not store.has_room_for(status):
                raise ScriptError(
                    f"/{path}, made by {writer}, has {status.st_size} bytes, {fs.holes(status)} of them in holes: more than "
                    f"fits on the disk of {store.root}",
                    hint="a commit stores every byte of a file; fix the package, or leave it out with exclude-packages",
                )
            fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                entry = replace(entry, blob=store.add_fd(fd, stat.S_IMODE(mode), entry.mtime))
            finally:
                os.close(fd)
            return Change(path=path, entry=entry, inode=status.st_ino if status.st_nlink > 1 else 0, lost=lost)
        lost = "fifo" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        return Change(path=path, lost=lost)

    def _is_opaque(self, full: str) -> bool:
        # absent, or not supported by this filesystem
        with contextlib.suppress(OSError):
            return bool(self.opaque) and os.getxattr(full, self.opaque, follow_symlinks=False) == b"y"
        return False


def _hiding(stamp: Stamp) -> tuple[int, int]:
    """A directory's identity, and whether it is opaque."""
    return stamp[0], stamp[1] & 1


def drop_lost_xattrs(fd: int) -> None:
    """Remove the xattrs of an open file that a tree cannot hold. Raises OSError."""
    for name in os.listxattr(fd):
        if name in _ACL or (is_kept(os.fsencode(name)) and not os.getxattr(fd, name)):
            os.removexattr(fd, name)


def _xattrs(full: str) -> tuple[tuple[tuple[bytes, bytes], ...], str]:
    """(xattrs that a tree keeps, what is lost of the others as of Change)."""
    names = os.listxattr(full, follow_symlinks=False)
    kept = sorted(name for name in map(os.fsencode, names) if is_kept(name))
    found = [(name, os.getxattr(full, name, follow_symlinks=False)) for name in kept]
    # those without a value are nothing to `ostree commit` and to fsck, which would take an object with one for damaged
    valued = tuple(pair for pair in found if pair[1])
    acl = any(name in names for name in _ACL)
    return valued, "ACL" if acl else "xattr without a value" if len(valued) < len(found) else ""
