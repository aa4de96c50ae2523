"""The files that `compose install` leaves beside a root directory for `compose postprocess` and `compose commit`: facts about
the root, the records that `compose blame` reads, and the sources from which `compose verify` rebuilds it.

    compose.json  compose-records.json.zst  compose-sources.tar.zst
    .compose.json.INODE  .compose-records.json.zst.INODE    of a root that is about to take the place of this one

A root that takes the place of another cannot do so at the same moment as its files. So these are written before, under a name
with the root's inode number: whichever root is there after a kill has its files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from compose import fs, records
from compose.bundle import Index, Source
from compose.errors import UsageError
from compose.pipeline import facts
from compose.pipeline.facts import Facts
from compose.records import Records

_FACTS = "compose.json"
_RECORDS = "compose-records.json.zst"
_SOURCES = "compose-sources.tar.zst"
_ANNOUNCED = re.compile(rf"\.(?P<name>{re.escape(_FACTS)}|{re.escape(_RECORDS)})\.(?P<inode>[0-9]+)")


def read_facts(rootfs: str) -> Facts | None:
    """The facts about a root; None when compose install did not make it.

    Raises UsageError for a file that is malformed or cannot be read.
    """
    path = _current(rootfs, _FACTS)
    data = _read(path)
    return None if data is None else facts.decode(data, path)


def read_records(rootfs: str) -> Records | None:
    """The records of a root; None when compose install did not make it.

    Raises UsageError for a file that is damaged or cannot be read.
    """
    path = _current(rootfs, _RECORDS)
    data = _read(path)
    try:
        return None if data is None else records.decode(data)
    except ValueError as error:
        raise UsageError(
            f"{path} is damaged: {error}", hint="remove it; compose blame will know nothing about the root"
        ) from error


def write_facts(rootfs: str, known: Facts) -> None:
    """Write the facts about a root. Raises StorageError."""
    fs.atomic_write(_path(rootfs, _FACTS), facts.encode(known))


def write_records(rootfs: str, known: Records) -> None:
    """Write the records of a root. Raises StorageError."""
    fs.atomic_write(_path(rootfs, _RECORDS), records.encode(known))


def announce(rootfs: str, fresh: str, known: Facts | None, kept: Records | None) -> None:
    """Write the facts about a root, and its records, before it is exchanged with rootfs. fresh: where it is now. Raises
    StorageError."""
    with fs.storage_errors(rootfs):
        inode = os.stat(fresh).st_ino
    if kept is not None:
        fs.atomic_write(_path(rootfs, _of_root(_RECORDS, inode)), records.encode(kept))
    if known is not None:
        fs.atomic_write(_path(rootfs, _of_root(_FACTS, inode)), facts.encode(known))


def settle(rootfs: str) -> None:
    """Give what was announced for the root that is there its final name, and remove what was announced for roots that never
    came; nothing without a root. Raises StorageError."""
    with fs.storage_errors(rootfs):
        inode = _inode(rootfs)
        for path, found in _announced(rootfs) if inode is not None else ():
            if int(found["inode"]) == inode:
                os.rename(path, _path(rootfs, found["name"]))
            else:
                os.unlink(path)


def forget(rootfs: str) -> None:
    """Remove what was announced, before a new root is made. Raises StorageError."""
    with fs.storage_errors(rootfs):
        for path, _ in _announced(rootfs):
            os.unlink(path)


def write_sources(rootfs: str, files: Mapping[str, Source], about: Mapping[str, Any]) -> None:
    """Write the sources of a root: files by path, and facts about them. Raises StorageError."""
    records.write_sources(_path(rootfs, _SOURCES), files, about)


def remove_sources(rootfs: str) -> None:
    """Remove the sources that an earlier root in the same place left. Raises StorageError."""
    with suppress(FileNotFoundError), fs.storage_errors(rootfs):
        os.unlink(_path(rootfs, _SOURCES))


def unpack_sources(rootfs: str, directory: str) -> Index | None:
    """Unpack the sources into an empty, private directory; None when there are none. Raises FetchError, StorageError."""
    return records.read_sources(_path(rootfs, _SOURCES), directory)


def _of_root(name: str, inode: int) -> str:
    return f".{name}.{inode}"


def _inode(rootfs: str) -> int | None:
    """Inode number of a root, None if there is none, or no access to it."""
    try:
        return os.stat(rootfs).st_ino
    except OSError:
        return None


def _current(rootfs: str, name: str) -> str:
    """Path of a file about the root that is there."""
    inode = _inode(rootfs)
    announced = _path(rootfs, _of_root(name, inode)) if inode is not None else ""
    return announced if _is_own_file(announced) else _path(rootfs, name)


def _announced(rootfs: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Paths of the files that were announced, with their names parsed. Raises OSError."""
    top = os.path.dirname(os.path.realpath(rootfs))
    with suppress(FileNotFoundError):
        for found in filter(None, map(_ANNOUNCED.fullmatch, os.listdir(top))):
            path = os.path.join(top, found[0])
            # the directory may be one in which others may write too
            if _is_own_file(path):
                yield path, found


def _is_own_file(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _path(rootfs: str, name: str) -> str:
    # beside the directory itself, however it is named: through a symlink, or as "."
    return os.path.join(os.path.dirname(os.path.realpath(rootfs)), name)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}",
            hint="compose install writes this file beside the root; make it readable, or remove it",
        ) from error
