"""The overlay's upper layer, read as changes to the tree below it.

Runs in the mount namespace that wrote it: elsewhere owners and capabilities may read differently. In the upper layer a
character device 0:0 stands for a deletion, and an xattr for a directory that hides the one below (kernel documentation,
filesystems/overlayfs).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from compose.blobs import BlobStore
from compose.errors import ScriptError
from compose.tree import Entry, Tree, TreeEditor, join
from compose.workroot.materialise import MOUNT_POINTS

_OPAQUE = "trusted.overlay.opaque"
_KEPT = ("security.capability",)
_OVERLAY = ("user.overlay.", "trusted.overlay.")

Stamp = tuple[int, int, int, int, int]
"""(inode, ctime in ns, mode, uid, gid) of a path in the upper layer; ctime 0 for a directory, where entries coming and
going change it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Something a program made that a tree cannot hold. what: "fifo", "socket", "device"."""

    path: str
    what: str


def stamps(upper: str) -> dict[str, Stamp]:
    """Every path in the upper layer: comparing two gives what a program changed."""
    return {
        path: (
            status.st_ino,
            0 if stat.S_ISDIR(status.st_mode) else status.st_ctime_ns,
            status.st_mode,
            status.st_uid,
            status.st_gid,
        )
        for path, status in _walk(upper)
    }


def changed(before: dict[str, Stamp], after: dict[str, Stamp], lower: str) -> tuple[str, ...]:
    """Paths made, changed or removed between two looks, sorted. A directory only copied up from `lower` is none of them."""
    found = []
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old == new or (old is None and new is not None and _copied_up(f"{lower}/{path}", new)):
            continue
        found.append(path)
    return tuple(sorted(found))


def _copied_up(below: str, stamp: Stamp) -> bool:
    if not stat.S_ISDIR(stamp[2]):
        return False
    try:
        status = os.lstat(below)
    except OSError:
        return False
    return (status.st_mode, status.st_uid, status.st_gid) == stamp[2:]


def _walk(upper: str) -> Iterator[tuple[str, os.stat_result]]:
    pending = [""]
    while pending:
        above = pending.pop()
        with os.scandir(join(upper, above) if above else upper) as entries:
            for each in entries:
                path = join(above, each.name)
                status = each.stat(follow_symlinks=False)
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path)


def absorb(upper: str, base: Tree, store: BlobStore, writers: dict[str, str]) -> tuple[Tree, tuple[Dropped, ...]]:
    """base with all changes of the upper layer. writers: who changed which path.

    What equals the entry below in content and metadata is no change, even when it was copied up. Raises ScriptError for
    a name that is not UTF-8, which OSTree cannot hold.
    """
    editor = base.edit()
    dropped: list[Dropped] = []
    groups: dict[int, str] = {}
    for path, status in sorted(_walk(upper), key=lambda pair: pair[0]):
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise ScriptError(
                f"{os.fsencode(path)!r} was made by {writers.get(path, 'a program')}: the name is not UTF-8",
                hint="OSTree can only hold UTF-8 names; remove the file in a postprocess script",
            ) from error
        if path in MOUNT_POINTS and path not in base:
            continue
        _absorb_one(path, status, f"{upper}/{path}", editor, store, writers, groups, dropped)
    return editor.build(), tuple(dropped)


def _absorb_one(
    path: str,
    status: os.stat_result,
    full: str,
    editor: TreeEditor,
    store: BlobStore,
    writers: dict[str, str],
    groups: dict[int, str],
    dropped: list[Dropped],
) -> None:
    mode = status.st_mode
    if stat.S_ISCHR(mode) and status.st_rdev == 0:
        editor.remove(path)
        return
    below = editor.get(path)
    entry = Entry(
        mode=mode,
        uid=status.st_uid,
        gid=status.st_gid,
        xattrs=_xattrs(full),
        mtime=int(status.st_mtime),
        writer=writers.get(path, "program:unknown"),
    )
    if stat.S_ISDIR(mode):
        if below is not None and (not below.is_dir or _is_opaque(full)):
            editor.remove(path)
            below = replace(below, mtime=entry.mtime) if below.is_dir else None
    elif stat.S_ISLNK(mode):
        entry = replace(entry, mode=stat.S_IFLNK | 0o777, target=os.readlink(full))
    elif stat.S_ISREG(mode):
        fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            entry = replace(entry, blob=store.add_fd(fd, stat.S_IMODE(mode), int(status.st_mtime)))
        finally:
            os.close(fd)
        if status.st_nlink > 1:
            entry = replace(entry, link=groups.setdefault(status.st_ino, f"workroot:{path}"))
    else:
        kind = "fifo" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        dropped.append(Dropped(path=path, what=kind))
        editor.remove(path)
        return
    if below is not None and _same(below, entry):
        if path not in editor:
            editor.put(path, below)
        return
    if below is not None and below.is_dir and not entry.is_dir:
        editor.remove(path)
    editor.put(path, entry)


def _same(below: Entry, entry: Entry) -> bool:
    if (below.mode, below.uid, below.gid, below.xattrs, below.target) != (
        entry.mode,
        entry.uid,
        entry.gid,
        entry.xattrs,
        entry.target,
    ):
        return False
    if below.blob is None or entry.blob is None:
        return below.blob is entry.blob
    return below.blob.digest == entry.blob.digest


def _is_opaque(full: str) -> bool:
    try:
        return os.getxattr(full, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _xattrs(full: str) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for name in os.listxattr(full, follow_symlinks=False):
        if name in _KEPT or (name.startswith("user.") and not name.startswith(_OVERLAY)):
            found.append((os.fsencode(name), os.getxattr(full, name, follow_symlinks=False)))
    return tuple(sorted(found))
