"""fs-verity digests of files: what a kernel measures of a file whose bytes it checks at each read.

The kind that composefs and OSTree use: sha256, blocks of 4096 bytes, no salt. A tree of digests is made over the blocks, and
the digest is that of a descriptor with its root (linux: Documentation/filesystems/fsverity.rst, struct fsverity_descriptor).
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct

from compose.ostree import worker

BLOCK = 4096
"""Bytes of a block, of data and of digests. The last of each level is filled up with zeros."""

_SHA256 = 1
_BLOCK_BITS = 12
_descriptor = struct.Struct("<BBBB4xQ64s32x144x")
"""version, hash algorithm, log2 of the block size, bytes of salt; bytes of data; root digest; salt, reserved."""

Job = tuple[str, str]
"""Path of a file, and the sha256 that its bytes must have, "" for any."""


class Verity:
    """Takes the bytes of one file in pieces. Holds less than a block of each level of the tree."""

    def __init__(self) -> None:
        self._size = 0
        self._rest = b""
        self._levels = [bytearray()]

    def update(self, data: bytes) -> None:
        """The next bytes, as many as there are; large pieces cost least."""
        self._size += len(data)
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % BLOCK
        self._rest = data[whole:]
        self._add(0, _digests(memoryview(data)[:whole]))

    def digest(self) -> bytes:
        """Of all that was taken, 32 bytes. Nothing is taken afterwards."""
        if self._rest:
            self._add(0, _padded(self._rest))
        root = self._root() if self._size else b""
        return hashlib.sha256(_descriptor.pack(1, _SHA256, _BLOCK_BITS, 0, self._size, root)).digest()

    def _add(self, level: int, digests: bytes) -> None:
        """Digests of what is below a level, for its blocks."""
        if level == len(self._levels):
            self._levels.append(bytearray())
        held = self._levels[level]
        held += digests
        whole = len(held) - len(held) % BLOCK
        if whole:
            above = _digests(memoryview(bytes(held[:whole])))
            del held[:whole]
            self._add(level + 1, above)

    def _root(self) -> bytes:
        """The one digest of the highest level, when what is left of those below has been added to it."""
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) != hashlib.sha256().digest_size:
            if self._levels[level]:
                self._add(level + 1, _padded(bytes(self._levels[level])))
            level += 1
        return bytes(self._levels[level])


def _digests(blocks: memoryview) -> bytes:
    sha256 = hashlib.sha256
    return b"".join([sha256(blocks[start : start + BLOCK]).digest() for start in range(0, len(blocks), BLOCK)])


def _padded(part: bytes) -> bytes:
    """Digest of a block that is not full."""
    return hashlib.sha256(part.ljust(BLOCK, b"\0")).digest()


def serve_verity() -> None:
    """A program for each core, beside those of compose.ostree.worker: answer() lists of Job until standard input ends."""
    worker.serve(answer)


def answer(batch: list[Job]) -> list[bytes] | worker.Failure:
    """The digest of each file, or the first failure."""
    found = []
    for path, sha256 in batch:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    return (worker.NOT_REGULAR, path, 0, "")
                digest = _measure(fd, sha256)
            finally:
                os.close(fd)
        except OSError as error:
            return (worker.READ, path, error.errno or 0, error.strerror or str(error))
        if digest is None:
            return (worker.DAMAGED, path, 0, "")
        found.append(digest)
    return found


def _measure(fd: int, sha256: str) -> bytes | None:
    """None for a file that has another sha256."""
    verity, plain = Verity(), hashlib.sha256()
    for piece in worker.chunks(fd):
        verity.update(piece)
        if sha256:
            plain.update(piece)
    return verity.digest() if sha256 in ("", plain.hexdigest()) else None
