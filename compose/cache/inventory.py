"""The contents of a cachedir: what there is, how much disk space it takes, and when it was last used.

The time of use is an mtime, which composes update on use: of manifests, of an RPM's directory, of a program's remembered
result (when it is replayed), and of a lower layer's directory (when a live root is mounted on it). For repository metadata
it is the newest mtime, since libdnf5 touches what it loads.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from compose.blobs import BlobStore
from compose.cachedir import HISTORY, IMAGES, LABELS, OBJECT_MEMO, PREVIEW, PROGRAMS, SOLVED, TREEFILES, CacheDir
from compose.fs import atomic_write
from compose.importer.cache import ImportCache, read_manifest
from compose.rpm.manifest import PackageManifest
from compose.workroot.memory import ProgramMemory

_HISTORY_LENGTH = 1000  # composes


class Kind(StrEnum):
    """What an item is. Values are names in the cachedir, except for lower layers, which are stored beside programs, and
    memos, which have several names."""

    REPOMD = "repomd"
    RPMS = "rpms"
    MANIFESTS = "manifests"
    PROGRAMS = PROGRAMS
    LOWERS = "lower-layers"
    BLOBS = "blobs"
    MEMOS = "memos"
    SCRATCH = "work"
    PREVIEW = PREVIEW
    IMAGES = IMAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something in a cachedir that can be removed by itself.

    path: absolute. size: bytes on disk; hard links to what was counted already are not counted again. used: last use, in
    seconds since 1970. blobs: paths of the blobs that a manifest, program result or lower layer refers to; None for other
    kinds, and when this version cannot read the item.
    """

    kind: Kind
    path: str
    size: int
    used: float
    blobs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compose:
    """A past compose. time: its end, in seconds since 1970. counts: kind -> (requested, found in the cache)."""

    time: int
    counts: Mapping[str, tuple[int, int]]


def take_stock(cache: CacheDir) -> tuple[Item, ...]:
    """Everything in a cachedir, which the caller has locked."""
    usage = _DiskUsage()
    store = BlobStore(cache.join(Kind.BLOBS))
    manifests = ImportCache(cache.join(Kind.MANIFESTS), store)
    items: list[Item] = []

    def add(kind: Kind, path: str, blobs: tuple[str, ...] | None = None) -> None:
        # a running compose may have removed it
        with suppress(FileNotFoundError):
            items.append(usage.item(kind, path, blobs))

    # blobs first, so that hard links to them elsewhere count as nothing
    for path in store.paths():
        add(Kind.BLOBS, path)
    for path in manifests.paths():
        manifest = read_manifest(path)
        add(Kind.MANIFESTS, path, None if manifest is None else _blobs_of(manifest, store))
    memory = ProgramMemory(cache.join(Kind.PROGRAMS))
    for path in memory.paths():
        contents = memory.contents(path)
        add(Kind.PROGRAMS, path, None if contents is None else tuple({store.path(blob) for blob in contents}))
    for path in memory.lowers():
        add(Kind.LOWERS, path, usage.linked_blobs(path))
    for path in _directories(cache.join(Kind.RPMS)):
        add(Kind.RPMS, path)
    for path in _directories(cache.join(Kind.REPOMD)):
        if os.path.isdir(os.path.join(path, "repodata")):
            add(Kind.REPOMD, path)
    memos = (path for name in (LABELS, SOLVED, TREEFILES) for path in _names(cache.join(name)))
    for path in (cache.join(OBJECT_MEMO), *memos):
        add(Kind.MEMOS, path)
    for path in _directories(cache.join(Kind.SCRATCH)):
        add(Kind.SCRATCH, path)
    for kind in (Kind.PREVIEW, Kind.IMAGES):
        add(kind, cache.join(kind))
    return tuple(items)


def _blobs_of(manifest: PackageManifest, store: BlobStore) -> tuple[str, ...]:
    return tuple({store.path(file.blob) for file in manifest.files if file.blob is not None})


def past_composes(cache: CacheDir) -> tuple[Compose, ...]:
    """The composes in the history, oldest first."""
    return tuple(_composes(_history(cache)))


def trim_history(cache: CacheDir) -> None:
    """Drop all but the latest composes from the history. Raises StorageError."""
    lines = _history(cache)
    if len(lines) > _HISTORY_LENGTH:
        atomic_write(cache.join(HISTORY), b"".join(lines[-_HISTORY_LENGTH:]), mode=0o600)


def _history(cache: CacheDir) -> list[bytes]:
    try:
        with open(cache.join(HISTORY), "rb") as file:
            return file.readlines()
    except FileNotFoundError:
        return []


def _composes(lines: Iterable[bytes]) -> Iterator[Compose]:
    for line in lines:
        # a full disk may have truncated it
        try:
            row = json.loads(line)
            time = int(row.pop("time"))
            yield Compose(time=time, counts={str(what): (int(asked), int(hit)) for what, (asked, hit) in row.items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


class _DiskUsage:
    """Sizes on disk; files with several hard links count once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()
        self._blobs: dict[tuple[int, int], str] = {}

    def linked_blobs(self, directory: str) -> tuple[str, ...]:
        """Blobs hard-linked below `directory`; their space is not freed while those links exist."""
        inodes = {(status.st_dev, status.st_ino) for status in _statuses_below(directory)}
        return tuple(self._blobs[inode] for inode in inodes & self._blobs.keys())

    def item(self, kind: Kind, path: str, blobs: tuple[str, ...] | None = None) -> Item:
        own = os.lstat(path)
        size = 0
        newest = own.st_mtime
        for status in (own, *_statuses_below(path)):
            newest = max(newest, status.st_mtime)
            inode = (status.st_dev, status.st_ino)
            if inode not in self._seen:
                size += status.st_blocks * 512
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                self._seen.add(inode)
        match kind:
            case Kind.RPMS | Kind.PROGRAMS | Kind.LOWERS:
                used = own.st_mtime
            case Kind.BLOBS:
                # mtime comes from the package; ctime changes with every hard link that a compose makes
                used = own.st_ctime
                self._blobs[own.st_dev, own.st_ino] = path
            case _:
                used = newest
        return Item(kind=kind, path=path, size=size, used=used, blobs=blobs)


def _statuses_below(top: str) -> Iterator[os.stat_result]:
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            with suppress(FileNotFoundError):
                yield os.lstat(os.path.join(directory, name))


def _names(top: str) -> list[str]:
    try:
        return [os.path.join(top, name) for name in sorted(os.listdir(top))]
    except FileNotFoundError:
        return []


def _directories(top: str) -> list[str]:
    return [path for path in _names(top) if os.path.isdir(path) and not os.path.islink(path)]
