"""The directories of a tree: each is written as soon as all that is in it is known, while the contents of others still are.

Otherwise thousands of small objects would be left for one core when all contents are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compose.ostree.objects import Xattrs
from compose.ostree.transaction import Transaction
from compose.values import value


@value
class Directory:
    """parent: its place among the directories, before this one; -1 for the root. name: in the parent. mode: full st_mode."""

    parent: int
    name: bytes
    uid: int
    gid: int
    mode: int
    xattrs: Xattrs


class DirectoryWriter:
    """Writes a dirtree and a dirmeta of every directory: what is in it first, so the root last. Not for two threads at once."""

    def __init__(
        self, transaction: Transaction, directories: Sequence[Directory], files: Sequence[tuple[int, bytes]]
    ) -> None:
        """files: for each content of Transaction.write_contents() the place of its directory, and its name there."""
        self._transaction = transaction
        self._directories = directories
        self._names = files
        self._files: list[list[tuple[bytes, bytes]]] = [[] for _ in directories]
        self._below: list[list[tuple[bytes, bytes, bytes]]] = [[] for _ in directories]
        self._root: tuple[bytes, bytes] | None = None
        # how much of what is in it is not known yet
        self._open = [0] * len(directories)
        for each in directories:
            if each.parent >= 0:
                self._open[each.parent] += 1
        for place, _ in files:
            self._open[place] += 1
        for place in [place for place, count in enumerate(self._open) if not count]:
            self._write(place)

    def take(self, known: Iterable[tuple[int, bytes]]) -> None:
        """Places of contents, and their checksums. Raises what writing an object raises."""
        for content, checksum in known:
            place, name = self._names[content]
            self._files[place].append((name, checksum))
            self._open[place] -= 1
            if not self._open[place]:
                self._write(place)

    @property
    def root(self) -> tuple[bytes, bytes]:
        """Checksums of the root's dirtree and dirmeta, 32 bytes each, when all contents are known."""
        assert self._root is not None
        return self._root

    def _write(self, place: int) -> None:
        """A directory, and those above it in which nothing else was missing."""
        while True:
            each = self._directories[place]
            written = (
                self._transaction.write_dirtree(sorted(self._files[place]), sorted(self._below[place])),
                self._transaction.write_dirmeta(each.uid, each.gid, each.mode, each.xattrs),
            )
            self._files[place], self._below[place] = [], []
            if each.parent < 0:
                self._root = written
                return
            place = each.parent
            self._below[place].append((each.name, *written))
            self._open[place] -= 1
            if self._open[place]:
                return
