"""Find out which objects are in a repository. Directories are listed, because that reads no inodes.

With nothing cached this takes 0.16 s for 55,000 objects, and looking up each takes 0.9 s.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice

_LISTED_PER_OBJECT = 4
"""A directory is listed to its end if it has at most this many entries per object to find in it. A look-up takes as long as
listing 3 entries if everything is cached, 6 if nothing is."""
_METADATA = (".dirtree", ".dirmeta")


class Presence:
    """The objects in the objects directory of a repository. To be used while its lock is held, so that none is removed
    meanwhile."""

    def __init__(self, objects: str) -> None:
        self._objects = objects
        # file names of the metadata objects, of directories that were listed to their end
        self._metadata: dict[str, frozenset[str]] = {}

    def content(self, wanted: Iterable[bytes], suffix: str) -> set[bytes]:
        """Return those of these content objects that exist. wanted: checksums, 32 bytes. suffix: ".file" or ".filez"."""
        by_directory: dict[str, dict[str, bytes]] = {}
        for checksum in wanted:
            text = checksum.hex()
            by_directory.setdefault(text[:2], {})[text[2:] + suffix] = checksum
        found: set[bytes] = set()
        for directory, names in by_directory.items():
            path, most = f"{self._objects}/{directory}", _LISTED_PER_OBJECT * len(names)
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
        """Does a dirtree, dirmeta or commit exist? name: from object_name()."""
        listed = self._metadata.get(name[:2]) if name.endswith(_METADATA) else None
        return os.path.lexists(f"{self._objects}/{name}") if listed is None else name[3:] in listed
