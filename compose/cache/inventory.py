"""What lies in a cachedir, how much of the disk it takes, and when it was last of use.

The time of use is an mtime: a manifest's, and that of an RPM's directory, both set by every compose that takes them; that of
what a program did, set when it is done again, and of a lower layer's directory, set when a live root is on it; the newest of
a repository's metadata, for libdnf5 touches what it loads.
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

_KEPT = 1000  # composes in the history


class Kind(StrEnum):
    """The value is the name in the cachedir, but for lower layers, which lie beside programs, and memos, which have several."""

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
    """What can be removed on its own. path: absolute. size: bytes on disk, of what is not a hard link to something
    counted already. used: seconds since 1970. blobs: paths of what a manifest, or what a program did, refers to; None when
    this version cannot read it, and for what is neither."""

    kind: Kind
    path: str
    size: int
    used: float
    blobs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compose:
    """A past compose. time: of its end, seconds since 1970. counts: what -> (asked for, found in the cache)."""

    time: int
    counts: Mapping[str, tuple[int, int]]


def take_stock(cache: CacheDir) -> tuple[Item, ...]:
    """Everything in a cachedir that is held."""
    disk = _Disk()
    store = BlobStore(cache.join(Kind.BLOBS))
    manifests = ImportCache(cache.join(Kind.MANIFESTS), store)
    found: list[Item] = []

    def note(kind: Kind, path: str, blobs: tuple[str, ...] | None = None) -> None:
        # a compose that runs may have removed it
        with suppress(FileNotFoundError):
            found.append(disk.item(kind, path, blobs))

    # first, so that the hard links of scratch to them count nothing
    for path in store.paths():
        note(Kind.BLOBS, path)
    for path in manifests.paths():
        manifest = read_manifest(path)
        note(Kind.MANIFESTS, path, None if manifest is None else _blobs_of(manifest, store))
    memory = ProgramMemory(cache.join(Kind.PROGRAMS))
    for path in memory.paths():
        left = memory.contents(path)
        note(Kind.PROGRAMS, path, None if left is None else tuple({store.path(blob) for blob in left}))
    for path in memory.lowers():
        note(Kind.LOWERS, path, disk.linked_blobs(path))
    for path in _directories(cache.join(Kind.RPMS)):
        note(Kind.RPMS, path)
    for path in _directories(cache.join(Kind.REPOMD)):
        if os.path.isdir(os.path.join(path, "repodata")):
            note(Kind.REPOMD, path)
    memos = (each for name in (LABELS, SOLVED, TREEFILES) for each in _names(cache.join(name)))
    for path in (cache.join(OBJECT_MEMO), *memos):
        note(Kind.MEMOS, path)
    for path in _directories(cache.join(Kind.SCRATCH)):
        note(Kind.SCRATCH, path)
    for kind in (Kind.PREVIEW, Kind.IMAGES):
        note(kind, cache.join(kind))
    return tuple(found)


def _blobs_of(manifest: PackageManifest, store: BlobStore) -> tuple[str, ...]:
    return tuple({store.path(file.blob) for file in manifest.files if file.blob is not None})


def past_composes(cache: CacheDir) -> tuple[Compose, ...]:
    """Those that the history has, the oldest first."""
    return tuple(_composes(_history(cache)))


def trim_history(cache: CacheDir) -> None:
    """Forget all but the last composes. Raises StorageError."""
    lines = _history(cache)
    if len(lines) > _KEPT:
        atomic_write(cache.join(HISTORY), b"".join(lines[-_KEPT:]), mode=0o600)


def _history(cache: CacheDir) -> list[bytes]:
    try:
        with open(cache.join(HISTORY), "rb") as file:
            return file.readlines()
    except FileNotFoundError:
        return []


def _composes(lines: Iterable[bytes]) -> Iterator[Compose]:
    for line in lines:
        # cut short by a full disk
        try:
            row = json.loads(line)
            time = int(row.pop("time"))
            yield Compose(time=time, counts={str(what): (int(asked), int(hit)) for what, (asked, hit) in row.items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


class _Disk:
    """Sizes on disk; what has several names counts once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()
        self._blobs: dict[tuple[int, int], str] = {}

    def linked_blobs(self, directory: str) -> tuple[str, ...]:
        """Those that files below a directory are hard links to: as long as they are, the disk has them."""
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
            case Kind.RPMS | Kind.PROGRAMS:
                used = own.st_mtime
            case Kind.BLOBS:
                # its mtime is what the package says; each link to it, as composes make, sets this
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
