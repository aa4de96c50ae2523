"""Removing from a cachedir: what nothing refers to, what was not of use for long, and what is too much."""

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
    """max_size: bytes of the whole cachedir but its preview repository, None for any. unused_since: what was last of use
    before goes, seconds since 1970, None for nothing. preview: the preview repository goes too."""

    max_size: int | None = None
    unused_since: float | None = None
    preview: bool = False


def collect(
    cache: CacheDir, limits: Limits, reporter: Reporter, *, timeout: float, dry_run: bool
) -> tuple[tuple[Item, ...], int]:
    """Remove what is beyond the limits, the least recently used first. Returns what went, and the bytes that remain.

    No compose runs meanwhile, and one that begins waits. Without any limit only that goes which no compose would find:
    blobs that nothing refers to, manifests and memories of programs that are damaged or of another version, scratch of
    composes that were killed. timeout: seconds to wait for composes that run. dry_run: nothing is removed. Raises StorageError.
    """
    with cache.exclusive(reporter, timeout=timeout):
        items = take_stock(cache)
        going = tuple(beyond(items, limits))
        if not dry_run:
            for item in going:
                with fs.storage_errors(item.path):
                    remove_tree(item.path)
            trim_history(cache)
    counted = [item for item in items if item.kind is not Kind.PREVIEW]
    gone = {item.path for item in going}
    return going, sum(item.size for item in counted if item.path not in gone)


def beyond(items: Sequence[Item], limits: Limits) -> Iterator[Item]:
    """What goes. Pure."""
    blobs = {item.path: item for item in items if item.kind is Kind.BLOBS}
    references = Counter(path for item in items for path in item.blobs or ())
    left = sum(item.size for item in items if item.kind is not Kind.PREVIEW)

    def unreferenced(item: Item) -> Iterator[Item]:
        for path in item.blobs or ():
            references[path] -= 1
            if not references[path] and path in blobs:
                yield blobs[path]

    useful = []
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
            useful.append(item)
    # a lower layer is soon made anew, and while it is there its files take room that removing blobs does not free
    for item in sorted(useful, key=lambda each: (each.kind is not Kind.LOWERS, each.used)):
        too_old = limits.unused_since is not None and item.used < limits.unused_since
        too_much = limits.max_size is not None and left > limits.max_size
        if too_old or too_much:
            for each in (item, *unreferenced(item)):
                left -= each.size
                yield each
