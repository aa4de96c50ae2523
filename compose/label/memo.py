"""A cache of label look-ups: 54,000 look-ups take more than a second, reading their results 30 ms.

    DIRECTORY/KEY       a sealed file per policy; KEY: digest of the rules and of the libraries that apply them

The file is JSON: type of file (S_IFMT, in decimal) -> context ("" for none) -> paths.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from compose.fs import storage_errors
from compose.sealed import forget_oldest, read_sealed, write_sealed

_KIND = b"compose labels 1\n"
_LIBRARIES = ("/libselinux.so.", "/libpcre2-8.so.")
_POLICIES = 8
"""How many files to keep, the latest ones."""
_SPARE = 4
"""Paths of earlier trees are kept until the memo has this many times the paths of the current tree."""


class LabelMemo:
    """(type of file, path) -> context for one policy; None where the rules have no context. Empty unless opened."""

    def __init__(self) -> None:
        self._path = ""
        self._before = 0
        self._found: dict[int, dict[str, str | None]] = {}

    @classmethod
    def open(cls, directory: str, rules: Mapping[str, bytes]) -> Self:
        """Read what is remembered of a policy. rules: its file_contexts files, by suffix."""
        memo = cls()
        try:
            memo._path = os.path.join(directory, _key(rules))
        except FileNotFoundError:
            # libselinux was upgraded since this process loaded it: remember nothing
            return memo
        data = read_sealed(memo._path, _KIND)
        for kind, contexts in json.loads(bytes(data)).items() if data is not None else ():
            found = memo.of(int(kind))
            for context, paths in contexts.items():
                found.update(dict.fromkeys(paths, context or None))
        memo._before = len(memo)
        return memo

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def of(self, kind: int) -> dict[str, str | None]:
        """Contexts by path for files of one type (S_IFMT), to read and to add to."""
        return self._found.setdefault(kind, {})

    def save(self, wanted: int) -> None:
        """Write the memo if anything was added. wanted: number of paths in the current tree. Raises StorageError."""
        if not self._path or len(self) == self._before:
            return
        document: dict[str, dict[str, list[str]]] = {}
        # if these are mostly paths of trees that are gone, start over
        for kind, rows in self._found.items() if len(self) <= _SPARE * wanted else ():
            contexts = document[str(kind)] = {}
            for path, context in rows.items():
                contexts.setdefault(context or "", []).append(path)
        directory = os.path.dirname(self._path)
        with storage_errors(directory):
            os.makedirs(directory, mode=0o700, exist_ok=True)
            write_sealed(self._path, _KIND, json.dumps(document).encode())
            forget_oldest(directory, _POLICIES)


def _key(rules: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, data in sorted((*rules.items(), *_libraries().items())):
        total.update(f"{len(name)} {len(data)} {name}".encode() + data)
    return total.hexdigest()


def _libraries() -> dict[str, bytes]:
    """The libraries in this process that apply the rules: content by path."""
    lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in lines if any(name in line for name in _LIBRARIES)}
    return {path: Path(path).read_bytes() for path in paths}
