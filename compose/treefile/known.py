"""Cache of treefiles that have been parsed and validated without errors, to do neither again.

Kickstart files are quick to parse and not cached.

    DIRECTORY/KEY       a sealed file each, JSON; KEY: digest of its bytes, its syntax, the schema and this version

A value is stored as [value, line, column]; lists and mappings contain such triples.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import Any

import compose
from compose.errors import StorageError
from compose.sealed import forget_oldest, read_sealed, write_sealed
from compose.treefile.source import Located, Place
from compose.treefile.validate import schema_text

# To be incremented whenever the same bytes may be parsed or validated differently than before.
_KIND = b"compose treefile 6\n"
_KEPT = 200


class KnownFiles:
    """The cache in one directory. Nothing is written before keep()."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._version = hashlib.sha256(f"{compose.__version__} {schema_text()}".encode())
        self._new: dict[str, bytes] = {}

    def recall(self, data: bytes, path: str) -> Located | None:
        """The parsed file with these bytes, or None if they are unknown. path: the file's current path."""
        found = read_sealed(os.path.join(self._directory, self._key(data, path)), _KIND)
        return None if found is None else _unpacked(json.loads(bytes(found)), path)

    def note(self, data: bytes, path: str, source: Located) -> None:
        """Note that these bytes parse to `source`, which is valid."""
        # a file nested too deeply for json is not worth caching
        with suppress(RecursionError):
            self._new[self._key(data, path)] = json.dumps(_packed(source)).encode()

    def keep(self) -> None:
        """Write what was noted; failure to write is ignored."""
        if self._new:
            with suppress(OSError, StorageError):
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
                for key, data in self._new.items():
                    write_sealed(os.path.join(self._directory, key), _KIND, data)
                forget_oldest(self._directory, _KEPT)
            self._new.clear()

    def _key(self, data: bytes, path: str) -> str:
        total = self._version.copy()
        # the extension decides which parser reads the file
        total.update(f" {os.path.splitext(path)[1]} ".encode(errors="surrogateescape"))
        total.update(data)
        return total.hexdigest()


def _packed(source: Located) -> list[Any]:
    value = source.value
    if isinstance(value, dict):
        value = {key: _packed(member) for key, member in value.items()}
    elif isinstance(value, list):
        value = [_packed(item) for item in value]
    return [value, source.place.line, source.place.column]


def _unpacked(row: list[Any], path: str) -> Located:
    value, line, column = row
    if isinstance(value, dict):
        value = {key: _unpacked(member, path) for key, member in value.items()}
    elif isinstance(value, list):
        value = [_unpacked(item, path) for item in value]
    return Located(value, Place(path, line, column))
