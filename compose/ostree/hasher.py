"""What is committed of a file whose contents nobody has seen before: its sha256 and its xattrs."""

from __future__ import annotations

import hashlib
import os
import stat

from compose import fs
from compose.ostree import worker

_HELD = 1 << 20
"""Most bytes of a file that are read with one call."""

Setup = tuple[list[bytes], list[bytes]]
"""Names of the xattrs to read; what the names of more begin with."""
Hashed = tuple[bytes, int, list[tuple[bytes, bytes]]]
"""The sha256 of the contents, 32 bytes; their size in bytes; xattrs that have a value, sorted."""


class Hasher:
    """Reads files and their xattrs."""

    def __init__(self, names: list[bytes], prefixes: list[bytes]) -> None:
        self._names = frozenset(names)
        self._prefixes = tuple(prefixes)

    def hash_batch(self, batch: list[str]) -> list[Hashed] | worker.Failure:
        """What is found of each file, or the first failure among them."""
        found = []
        for path in batch:
            try:
                fd = os.open(path, worker.OPEN)
                try:
                    status = os.fstat(fd)
                    if not stat.S_ISREG(status.st_mode):
                        return (worker.CHANGED, path, 0, "")
                    found.append((*_hash(fd, status.st_size), self._xattrs(fd)))
                finally:
                    os.close(fd)
            except OSError as error:
                return (worker.READ, path, error.errno or 0, error.strerror or str(error))
        return found

    def _xattrs(self, fd: int) -> list[tuple[bytes, bytes]]:
        names = [os.fsencode(name) for name in os.listxattr(fd)]
        wanted = [name for name in names if name in self._names or name.startswith(self._prefixes)]
        return sorted((name, value) for name in wanted if (value := os.getxattr(fd, name)))


def serve_hasher() -> None:
    """What a worker process runs: hash_batch() of each list of paths until standard input ends. See compose.ostree.worker."""
    worker.serve(lambda: Hasher(*worker.setup()).hash_batch)


def _hash(fd: int, size: int) -> tuple[bytes, int]:
    if size < _HELD:
        # one more byte than expected, to see that it is all
        data = os.pread(fd, size + 1, 0)
        if len(data) == size:
            return hashlib.sha256(data).digest(), size
    digest, total = hashlib.sha256(), 0
    for chunk in fs.chunks(fd):
        digest.update(chunk)
        total += len(chunk)
    return digest.digest(), total
