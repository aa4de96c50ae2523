"""Verdicts on the RPMs in the cachedir: files that were verified and are untouched since are not read again.

    CACHEDIR/verified    JSON in a sealed file: path -> what was verified

A row holds for one file (inode, size, times in nanoseconds; only root, or somebody who sets the clock, can forge the
ctime), one entry in a repository's metadata and one set of keys. Only good verdicts are stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from compose import __version__
from compose.fetch.verify import File, Verdict
from compose.rpm.pgp import PublicKey
from compose.sealed import read_sealed, write_sealed

_NAME = "verified"
_KIND = b"compose verified 1\n"
_MAX_ROWS = 20_000


class Verdicts:
    """keys: of each repository, as in verify.Job."""

    def __init__(self, cachedir: str, keys: Iterable[tuple[str, tuple[PublicKey, ...] | None]]) -> None:
        self._path = os.path.join(cachedir, _NAME)
        self._keys = {repo: hashlib.sha256(repr(repo_keys).encode()).hexdigest() for repo, repo_keys in keys}
        data = read_sealed(self._path, _KIND)
        self._rows: dict[str, Any] = json.loads(bytes(data)) if data is not None else {}
        self._seen: dict[str, list[Any]] = {}

    def look(self, file: File) -> Verdict | None:
        """Return the stored verdict on a file, if the file is still the same.

        Must be called before the file is verified: note() stores the verdict for the file as it was at this call.
        """
        facts = self._seen[file.path] = self._facts(file)
        row = self._rows.get(file.path)
        return None if row is None or row[0] != facts else Verdict(sha256=row[1], key=row[2])

    def note(self, verdicts: Mapping[File, Verdict]) -> None:
        """Store new verdicts. Raises StorageError."""
        good = {file: verdict for file, verdict in verdicts.items() if verdict.fault is None}
        for file, verdict in good.items():
            # the newest last
            self._rows.pop(file.path, None)
            self._rows[file.path] = [self._seen[file.path], verdict.sha256, verdict.key]
        if good:
            rows = dict(list(self._rows.items())[-_MAX_ROWS:])
            write_sealed(self._path, _KIND, json.dumps(rows).encode())

    def _facts(self, file: File) -> list[Any]:
        status = os.lstat(file.path)
        package = file.package
        return [
            __version__,
            [status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns],
            [str(package.nevra), package.download_size, *package.checksum],
            self._keys[package.repo],
        ]
