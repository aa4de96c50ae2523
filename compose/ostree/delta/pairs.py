"""Which old file a new one may be made of: that of the same path, or of the most similar one.

A version in a path (libfoo.so.1.2.3, /usr/lib/modules/6.1.2) makes it no other. libostree looks at names and sizes alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_DIGITS = re.compile(r"\d+")
_MOST = 16
"""Old files that are looked at for a new one."""
_COMMON = 256
"""Files of one name (README, index.html) from which on it says nothing."""
_SIMILAR = 0.5
"""Of two files of the same name in different directories: the smaller has at least so much of the larger one's size."""


@dataclass(frozen=True, slots=True)
class OldFile:
    """A regular file of the old commit. size: bytes."""

    checksum: bytes
    size: int


class OldFiles:
    """The old commit's files by path, and the search among them."""

    def __init__(self, files: Iterable[tuple[str, bytes]], size_of: Callable[[bytes], int | None]) -> None:
        """files: (path, checksum). size_of: bytes of a file, None for one that a client must not read; called only for
        candidates."""
        self._by_path = dict(files)
        self._size_of = size_of
        self._by_shape: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self._by_path):
            shape = _shape(path)
            self._by_shape[shape].append(path)
            self._by_name[shape.rpartition("/")[2]].append(path)

    def __contains__(self, path: str) -> bool:
        return path in self._by_path

    def similar(self, path: str, size: int) -> OldFile | None:
        """The old file that a new one, of `size` bytes, most resembles; None when there is none."""
        checksum = self._by_path.get(path)
        if checksum is not None and (same_path := self._file(checksum)):
            return same_path
        shape = _shape(path)
        versions = self._nearest(self._by_shape.get(shape, ()), path, size, 0.0)
        return versions or self._nearest(self._by_name.get(shape.rpartition("/")[2], ()), path, size, _SIMILAR)

    def _file(self, checksum: bytes) -> OldFile | None:
        """None for one that is empty, or not to be read."""
        size = self._size_of(checksum)
        return OldFile(checksum, size) if size else None

    def _nearest(self, paths: Sequence[str], path: str, size: int, least: float) -> OldFile | None:
        """least: of the larger one's size that the smaller one must have, 0 to 1."""
        if len(paths) > _COMMON:
            return None
        mine = set(path.split("/"))
        near = sorted(paths, key=lambda each: (-len(mine.intersection(each.split("/"))), each))[:_MOST]
        found = [file for each in near if (file := self._file(self._by_path[each]))]

        def likeness(file: OldFile) -> float:
            return min(size, file.size) / max(size, file.size)

        # of equal ones the first
        best = max(found, key=likeness, default=None)
        return best if best is not None and likeness(best) >= least else None


def _shape(path: str) -> str:
    return _DIGITS.sub("0", path)
