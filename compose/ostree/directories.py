"""Write the directories of a tree, each as soon as everything in it is known, while files of others are still being written.

Otherwise one core would write thousands of small objects at the end, after all files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compose.ostree.objects import Xattrs
from compose.ostree.transaction import Transaction
from compose.values import value


@value
class Directory:
    """parent: index of its parent, which is less than its own; -1 for the root. name: in the parent. mode: full st_mode."""

    parent: int
    name: bytes
    uid: int
    gid: int
    mode: int
    xattrs: Xattrs


class DirectoryWriter:
    """Writes a dirtree and a dirmeta of each directory, after those of all directories in it. Not thread-safe."""

    def __init__(
        self, transaction: Transaction, directories: Sequence[Directory], files: Sequence[tuple[int, bytes]]
    ) -> None:
        """files: for each content given to Transaction.write_contents(), the index of its directory and its name there.

        Writes the directories that contain nothing, and so raises what Transaction.write_dirtree() raises.
        """
        self._transaction = transaction
        self._directories = directories
        self._names = files
        self._files: list[list[tuple[bytes, bytes]]] = [[] for _ in directories]
        self._below: list[list[tuple[bytes, bytes, bytes]]] = [[] for _ in directories]
        self._root: tuple[bytes, bytes] | None = None
        # of each directory, the number of entries that are not known yet
        self._open = [0] * len(directories)
        for each in directories:
            if each.parent >= 0:
                self._open[each.parent] += 1
        for place, _ in files:
            self._open[place] += 1
        for place in [place for place, count in enumerate(self._open) if not count]:
            self._write(place)

    def take(self, known: Iterable[tuple[int, bytes]]) -> None:
        """Take note of the checksums (32 bytes) of contents, which are given by their indices, and write the directories that
        this completes. Raises what Transaction.write_dirtree() raises."""
        for content, checksum in known:
            place, name = self._names[content]
            self._files[place].append((name, checksum))
            self._open[place] -= 1
            if not self._open[place]:
                self._write(place)

    @property
    def root(self) -> tuple[bytes, bytes]:
        """Checksums of the root's dirtree and dirmeta, 32 bytes each. All contents must be known."""
        assert self._root is not None
        return self._root

    def _write(self, place: int) -> None:
        """Write a directory, and each directory above it that this completes."""
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
