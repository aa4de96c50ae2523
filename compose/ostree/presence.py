"""Which objects are in a repository: directories are listed, for that reads no inodes.

0.16 s for 55,000 objects of which nothing is in memory, where looking up each takes 0.9 s.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice

_LISTED = 4
"""A directory of objects is listed to its end when it holds at most so many times what is wanted of it: a look-up takes as long
as 3 names of a list where all is in memory, as 6 where nothing is."""
_METADATA = (".dirtree", ".dirmeta")


class Presence:
    """What is below the objects directory of a repository, as long as its lock is held: nothing goes meanwhile."""

    def __init__(self, objects: str) -> None:
        self._objects = objects
        # of directories that were listed to their end
        self._metadata: dict[str, frozenset[str]] = {}

    def content(self, wanted: Iterable[bytes], suffix: str) -> set[bytes]:
        """Which of these content objects are there; checksums are 32 bytes. A directory that holds much more than what is
        wanted of it is not read to its end."""
        by_directory: dict[str, dict[str, bytes]] = {}
        for checksum in wanted:
            text = checksum.hex()
            by_directory.setdefault(text[:2], {})[text[2:] + suffix] = checksum
        found: set[bytes] = set()
        for directory, names in by_directory.items():
            path, most = f"{self._objects}/{directory}", _LISTED * len(names)
            try:
                with os.scandir(path) as entries:
                    listed = {entry.name for entry in islice(entries, most + 1)}
            except FileNotFoundError:
                continue
            if len(listed) > most:
                listed |= {name for name in names.keys() - listed if os.path.lexists(f"{path}/{name}")}
            else:
                self._metadata[directory] = frozenset(name for name in listed if name.endswith(_METADATA))
            found.update(names[name] for name in names.keys() & listed)
        return found

    def metadata(self, name: str) -> bool:
        """Is this dirtree, dirmeta or commit there? name: "ab/cdef.dirtree"."""
        listed = self._metadata.get(name[:2]) if name.endswith(_METADATA) else None
        return os.path.lexists(f"{self._objects}/{name}") if listed is None else name[3:] in listed
