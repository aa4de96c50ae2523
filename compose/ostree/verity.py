"""fs-verity digests of files: what the kernel reports for a file whose contents it verifies at each read.

Of the kind that composefs and OSTree use: sha256, blocks of 4096 bytes, no salt. The blocks are the leaves of a Merkle tree;
the digest is the sha256 of a descriptor that contains the tree's root hash (linux: Documentation/filesystems/fsverity.rst,
struct fsverity_descriptor).
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct

from compose.ostree import worker

BLOCK = 4096
"""Bytes of a block of data or of hashes. The last block of each level is padded with zeros."""

_SHA256 = 1
_BLOCK_BITS = 12
_descriptor = struct.Struct("<BBBB4xQ64s32x144x")
"""version, hash algorithm, log2 of the block size, salt size; data size; root hash; salt, reserved."""

Job = tuple[str, str]
"""Path of a file, and the sha256 its contents must have, "" for any."""


class Verity:
    """Computes the digest of one file, which it is given in pieces. Holds less than a block of each level of the tree."""

    def __init__(self) -> None:
        self._size = 0
        self._rest = b""
        # of each level, from the leaves up, the hashes that do not fill a block yet
        self._levels = [bytearray()]

    def update(self, data: bytes) -> None:
        """Add the next bytes, any number of them; large pieces cost least."""
        self._size += len(data)
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % BLOCK
        self._rest = data[whole:]
        self._add(0, _hashes(memoryview(data)[:whole]))

    def digest(self) -> bytes:
        """32 bytes, for everything that was added. To be called once, at the end."""
        if self._rest:
            self._add(0, _padded_hash(self._rest))
        root = self._root() if self._size else b""
        return hashlib.sha256(_descriptor.pack(1, _SHA256, _BLOCK_BITS, 0, self._size, root)).digest()

    def _add(self, level: int, hashes: bytes) -> None:
        """Append to a level; the blocks this fills are hashed into the level above."""
        if level == len(self._levels):
            self._levels.append(bytearray())
        held = self._levels[level]
        held += hashes
        whole = len(held) - len(held) % BLOCK
        if whole:
            above = _hashes(memoryview(bytes(held[:whole])))
            del held[:whole]
            self._add(level + 1, above)

    def _root(self) -> bytes:
        """Pads and hashes what is left of each level, until the highest one has a single hash."""
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) != hashlib.sha256().digest_size:
            if self._levels[level]:
                self._add(level + 1, _padded_hash(bytes(self._levels[level])))
            level += 1
        return bytes(self._levels[level])


def _hashes(blocks: memoryview) -> bytes:
    sha256 = hashlib.sha256
    return b"".join([sha256(blocks[start : start + BLOCK]).digest() for start in range(0, len(blocks), BLOCK)])


def _padded_hash(part: bytes) -> bytes:
    """The hash of a block that is not full."""
    return hashlib.sha256(part.ljust(BLOCK, b"\0")).digest()


def serve_verity() -> None:
    """What a worker process runs: answer() each list of Job until standard input ends. See compose.ostree.worker."""
    worker.serve(lambda: answer)


def answer(batch: list[Job]) -> list[bytes] | worker.Failure:
    """The digest of each file, or the first failure among them."""
    found = []
    for path, sha256 in batch:
        try:
            fd = os.open(path, worker.OPEN)
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
    """The digest, or None for a file whose sha256 is another."""
    verity, plain = Verity(), hashlib.sha256()
    for piece in worker.chunks(fd):
        verity.update(piece)
        if sha256:
            plain.update(piece)
    return verity.digest() if sha256 in ("", plain.hexdigest()) else None
