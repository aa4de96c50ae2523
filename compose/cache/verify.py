"""Verification of a cachedir: every byte against the digest in its name.

A compose checks sizes, times and owners, and the digests of what it reads itself. Corruption by a failing disk in files that
only programs read is found only here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from compose.blobs import BlobStore
from compose.cache.inventory import Item, Kind, take_stock
from compose.cachedir import CacheDir
from compose.events import Reporter
from compose.fetch.fetcher import downloads_locked
from compose.fs import remove_tree, storage_errors
from compose.importer.cache import IMPORTER_VERSION, read_manifest
from compose.workroot.memory import ProgramMemory


def verify(cache: CacheDir, jobs: int, reporter: Reporter) -> tuple[int, tuple[str, ...]]:
    """Check all RPMs, manifests, program results and blobs, and remove the damaged ones. Composes may run meanwhile.

    jobs: threads. Returns the number of items checked, and the paths removed. Raises StorageError.
    """
    with cache.shared(reporter):
        store = BlobStore(cache.join(Kind.BLOBS))
        memory = ProgramMemory(cache.join(Kind.PROGRAMS))
        checks: dict[Kind, Callable[[str], bool]] = {
            Kind.RPMS: _is_sound_rpm,
            Kind.MANIFESTS: _is_sound_manifest,
            Kind.PROGRAMS: lambda path: not memory.is_current(path) or memory.contents(path) is not None,
            Kind.BLOBS: store.is_sound,
        }
        # a compose may be writing what ends with .tmp; what another version wrote is never read, and gc removes it
        items = [item for item in take_stock(cache) if item.kind in checks and not item.path.endswith(".tmp")]

        def is_sound(item: Item) -> bool:
            return checks[item.kind](item.path) or not os.path.lexists(item.path)

        with reporter.task("Verifying the cache", total=sum(item.size for item in items), unit="bytes") as task:

            def check(item: Item) -> bool:
                try:
                    return is_sound(item)
                finally:
                    task.advance(item.size)

            with ThreadPoolExecutor(max_workers=jobs) as pool:
                sound = list(pool.map(check, items))
        damaged = [item for item, is_whole in zip(items, sound, strict=True) if not is_whole]
        if damaged:
            with downloads_locked(cache.join(Kind.RPMS), reporter):
                # again, because a compose may have been downloading it
                damaged = [item for item in damaged if not is_sound(item)]
                for item in damaged:
                    with storage_errors(item.path):
                        remove_tree(item.path)
    return len(items), tuple(item.path for item in damaged)


def _is_sound_manifest(path: str) -> bool:
    return not path.endswith(f".{IMPORTER_VERSION}") or read_manifest(path) is not None


def _is_sound_rpm(directory: str) -> bool:
    """Check the RPM in rpms/ALGORITHM-DIGEST/."""
    algorithm, _, digest = os.path.basename(directory).partition("-")
    try:
        (name,) = os.listdir(directory)
        with open(os.path.join(directory, name), "rb") as file:
            return hashlib.file_digest(file, {"sha": "sha1"}.get(algorithm, algorithm)).hexdigest() == digest
    except (OSError, ValueError):
        return False
