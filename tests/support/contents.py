"""A directory on disk committed as `ostree commit --tree=dir=` does it: contents read where they lie, no blob store."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from compose.ostree.content import Content
from compose.ostree.objects import Xattrs
from compose.ostree.transaction import Transaction
from tests.support.disk import xattrs_of


@dataclass(slots=True)
class Directory:
    """files: name -> place in the list of contents."""

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs
    files: dict[bytes, int] = field(default_factory=dict)
    directories: dict[bytes, Directory] = field(default_factory=dict)


def scan(top: str) -> tuple[Directory, list[Content]]:
    """Everything below a directory."""
    contents: list[Content] = []

    def visit(path: str, status: os.stat_result) -> Directory:
        found = Directory(status.st_uid, status.st_gid, status.st_mode, xattrs_of(path))
        with os.scandir(path) as entries:
            for entry in entries:
                below = entry.stat(follow_symlinks=False)
                name = os.fsencode(entry.name)
                if stat.S_ISDIR(below.st_mode):
                    found.directories[name] = visit(entry.path, below)
                    continue
                symlink = stat.S_ISLNK(below.st_mode)
                found.files[name] = len(contents)
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
        return found

    return visit(top, os.lstat(top)), contents


def write_directory(transaction: Transaction, top: str) -> tuple[bytes, bytes]:
    """Write all objects of a directory; checksums of the root's dirtree and dirmeta, 32 bytes each."""
    root, contents = scan(top)
    checksums = transaction.write_contents(contents, lambda _objects, _bytes: None)

    def write(directory: Directory) -> tuple[bytes, bytes]:
        def below() -> Iterator[tuple[bytes, bytes, bytes]]:
            for name in sorted(directory.directories):
                yield (name, *write(directory.directories[name]))

        return (
            transaction.write_dirtree(
                [(name, checksums[directory.files[name]]) for name in sorted(directory.files)], list(below())
            ),
            transaction.write_dirmeta(directory.uid, directory.gid, directory.mode, directory.xattrs),
        )

    return write(root)
