"""A directory on disk committed as `ostree commit --tree=dir=` does it: contents read where they lie, no blob store."""

from __future__ import annotations

import os
import stat

from compose.ostree.content import Content
from compose.ostree.directories import Directory, DirectoryWriter
from compose.ostree.transaction import Transaction
from tests.support.disk import xattrs_of


def write_directory(transaction: Transaction, top: str) -> tuple[bytes, bytes]:
    """Write all objects of a directory; checksums of the root's dirtree and dirmeta, 32 bytes each."""
    directories: list[Directory] = []
    names: list[tuple[int, bytes]] = []
    contents: list[Content] = []

    def visit(path: str, name: bytes, parent: int, status: os.stat_result) -> None:
        place = len(directories)
        directories.append(
            Directory(
                parent=parent,
                name=name,
                uid=status.st_uid,
                gid=status.st_gid,
                mode=status.st_mode,
                xattrs=xattrs_of(path),
            )
        )
        with os.scandir(path) as entries:
            for entry in entries:
                below = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(below.st_mode):
                    visit(entry.path, os.fsencode(entry.name), place, below)
                    continue
                symlink = stat.S_ISLNK(below.st_mode)
                names.append((place, os.fsencode(entry.name)))
                contents.append(
                    Content(
                        uid=below.st_uid,
                        gid=below.st_gid,
                        mode=below.st_mode,
                        xattrs=xattrs_of(entry.path),
                        path=None if symlink else entry.path,
                        target=os.readlink(entry.path) if symlink else None,
                        size=0 if symlink else below.st_size,
                    )
                )

    visit(top, b"", -1, os.lstat(top))
    writer = DirectoryWriter(transaction, directories, names)
    transaction.write_contents(contents, writer.take, lambda _objects, _bytes: None)
    return writer.root
