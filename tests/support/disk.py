"""A directory on disk as a tree, the way `ostree commit` looks at one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from compose.blobs import BlobStore
from compose.tree import Entry, Tree


def xattrs_of(path: str) -> tuple[tuple[bytes, bytes], ...]:
    """All xattrs of a path itself, sorted; those with an empty value are not seen by ostree."""
    found = []
    for name in os.listxattr(path, follow_symlinks=False):
        if value := os.getxattr(path, name, follow_symlinks=False):
            found.append((os.fsencode(name), value))
    return tuple(sorted(found))


def scan_disk(top: Path, store: BlobStore) -> Tree:
    """The tree below a directory, contents copied into the store."""
    entries: dict[str, Entry] = {}
    pending = [""]
    while pending:
        path = pending.pop()
        full = os.path.join(top, path) if path else str(top)
        status = os.lstat(full)
        common = {"uid": status.st_uid, "gid": status.st_gid, "xattrs": xattrs_of(full), "writer": "disk"}
        if stat.S_ISDIR(status.st_mode):
            entries[path] = Entry(mode=status.st_mode, **common)
            pending += [f"{path}/{name}" if path else name for name in os.listdir(full)]
        elif stat.S_ISLNK(status.st_mode):
            entries[path] = Entry(mode=status.st_mode, target=os.readlink(full), **common)
        else:
            fd = os.open(full, os.O_RDONLY)
            blob = store.add_fd(fd, stat.S_IMODE(status.st_mode), 0)
            os.close(fd)
            entries[path] = Entry(mode=status.st_mode, blob=blob, **common)
    return Tree(entries)
