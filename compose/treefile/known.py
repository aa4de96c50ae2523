"""Files that were read before and found without fault: they are not parsed and held against the schema again.

    DIRECTORY/KEY       a sealed file for each, JSON; KEY: digest of its bytes, its syntax, the schema and this version

A value is [value, line, column], with such values inside of lists and mappings.
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

# To be raised whenever the same bytes could be read otherwise than before.
_KIND = b"compose treefile 3\n"
_KEPT = 200


class KnownFiles:
    """The memory in one directory. Nothing is written before keep()."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._version = hashlib.sha256(f"{compose.__version__} {schema_text()}".encode())
        self._new: dict[str, bytes] = {}

    def recall(self, data: bytes, path: str) -> Located | None:
        """What these bytes are, None when that is not known. path: where they are now."""
        found = read_sealed(os.path.join(self._directory, self._key(data, path)), _KIND)
        return None if found is None else _unpacked(json.loads(bytes(found)), path)

    def note(self, data: bytes, path: str, source: Located) -> None:
        """These bytes are this, and nothing is wrong with it."""
        # so deep is nothing that people write
        with suppress(RecursionError):
            self._new[self._key(data, path)] = json.dumps(_packed(source)).encode()

    def keep(self) -> None:
        """Remember what was noted, where the disk has room for it."""
        if self._new:
            with suppress(OSError, StorageError):
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
                for key, data in self._new.items():
                    write_sealed(os.path.join(self._directory, key), _KIND, data)
                forget_oldest(self._directory, _KEPT)
            self._new.clear()

    def _key(self, data: bytes, path: str) -> str:
        total = self._version.copy()
        # which decides how it is read
        total.update(f" {os.path.splitext(path)[1]} ".encode(errors="surrogateescape"))
        total.update(data)
        return total.hexdigest()


def _packed(source: Located) -> list[Any]:
    value = source.value
    if isinstance(value, dict):
        value = {key: _packed(each) for key, each in value.items()}
    elif isinstance(value, list):
        value = [_packed(each) for each in value]
    return [value, source.place.line, source.place.column]


def _unpacked(row: list[Any], path: str) -> Located:
    value, line, column = row
    if isinstance(value, dict):
        value = {key: _unpacked(each, path) for key, each in value.items()}
    elif isinstance(value, list):
        value = [_unpacked(each, path) for each in value]
    return Located(value, Place(path, line, column))
