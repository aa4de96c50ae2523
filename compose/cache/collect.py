"""Garbage collection of a cachedir: what nothing refers to, what has not been used for long, and what exceeds a size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compose import fs
from compose.cache.inventory import Item, Kind, take_stock, trim_history
from compose.cachedir import CacheDir
from compose.events import Reporter
from compose.sandbox.identity import remove_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a collection.

    max_size: bytes of the cachedir without its preview repository; None for no limit. unused_since: remove what was last used
    before this time, in seconds since 1970; None for no limit. preview: remove the preview repository too.
    """

    max_size: int | None = None
    unused_since: float | None = None
    preview: bool = False


def collect(
    cache: CacheDir, limits: Limits, reporter: Reporter, *, timeout: float, dry_run: bool
) -> tuple[tuple[Item, ...], int]:
    """Remove what exceeds the limits, least recently used first. Returns the removed items and the bytes that remain.

    The cachedir is locked: running composes are waited for, and new ones wait. Without limits, only what no compose would
    find is removed: unreferenced blobs, manifests and program results that are damaged or of another version, and scratch
    directories of killed composes. timeout: seconds to wait for running composes. dry_run: remove nothing. Raises
    StorageError, and SandboxError for files of a killed compose that only a user namespace could remove.
    """
    with cache.exclusive(reporter, timeout=timeout):
        items = take_stock(cache)
        removed = tuple(beyond(items, limits))
        if not dry_run:
            for item in removed:
                with fs.storage_errors(item.path):
                    remove_tree(item.path)
            trim_history(cache)
    paths = {item.path for item in removed}
    return removed, sum(item.size for item in items if item.kind is not Kind.PREVIEW and item.path not in paths)


def beyond(items: Sequence[Item], limits: Limits) -> Iterator[Item]:
    """The items to remove. Pure."""
    blobs = {item.path: item for item in items if item.kind is Kind.BLOBS}
    references = Counter(path for item in items for path in item.blobs or ())
    left = sum(item.size for item in items if item.kind is not Kind.PREVIEW)

    def unreferenced(item: Item) -> Iterator[Item]:
        for path in item.blobs or ():
            references[path] -= 1
            if not references[path] and path in blobs:
                yield blobs[path]

    in_use = []
    for item in items:
        match item.kind:
            case Kind.PREVIEW:
                if limits.preview:
                    yield item
                continue
            case Kind.SCRATCH:
                useless = True
            case Kind.BLOBS:
                useless = not references[item.path]
            case Kind.MANIFESTS | Kind.PROGRAMS:
                useless = item.blobs is None
            case _:
                useless = False
        if useless:
            left -= item.size
            yield item
        elif item.kind is not Kind.BLOBS:
            in_use.append(item)
    # lower layers first: they are cheap to recreate, and their hard links keep the space of removed blobs allocated
    for item in sorted(in_use, key=lambda item: (item.kind is not Kind.LOWERS, item.used)):
        too_old = limits.unused_since is not None and item.used < limits.unused_since
        too_much = limits.max_size is not None and left > limits.max_size
        if too_old or too_much:
            for removed in (item, *unreferenced(item)):
                left -= removed.size
                yield removed
