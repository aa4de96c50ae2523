"""The program that each core runs to write regular files: read, hash, deflate, write into staging.

It starts in 20 ms because it imports next to nothing: what a header looks like is worked out by its parent
(`compose.ostree.content`), once for all files with the same owner, mode and xattrs. Messages are marshal'ed tuples:

    parent -> worker    Setup, then any number of batches
    worker -> parent    per batch: list of (checksum, payload bytes, bytes written; -1 when the object was there), or
                        a failure: (kind, path, errno, text)
"""

from __future__ import annotations

import hashlib
import marshal
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from compose.ostree.deflate import WHOLE_MAX, Deflater

READ, WRITE, CHANGED, DAMAGED, NOT_REGULAR = "read", "write", "changed", "damaged", "not regular"
"""Kinds of failure: of the source, of the repository's disk, source changed under our hands, source has not the digest it
should have, source is no file."""

Inode = tuple[int, int, int, list[tuple[bytes, bytes]]]
"""Owner and group, -1 to leave them; mode; xattrs."""
Attributes = tuple[bytes, bytes, bytes, Inode]
"""What is the same for all files with one owner, mode and xattrs: header of the checksum; what stands before and after
the size in a .filez header; what the object's inode shows in the other kinds of repository."""
Setup = tuple[bool, str, str, int | None, list[Attributes]]
"""archive mode; objects directory; staging directory; deflate level; attributes."""
Batch = list[tuple[str, int, str]]
"""Of each file path, index into attributes, and sha256 of its bytes, "" when not known."""
Written = tuple[bytes, int, int]
Failure = tuple[str, str, int, str]

_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class _Failed(Exception):
    """Carries a Failure."""


def serve() -> None:
    """Answer batches until standard input ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    writer = Writer(*marshal.load(source))
    while True:
        try:
            batch = marshal.load(source)
        except EOFError:
            return
        marshal.dump(writer.write_batch(batch), sink)
        sink.flush()


class Writer:
    """Writes regular files as objects into a staging directory, unless they are there or in the repository."""

    def __init__(
        self, archive: bool, objects: str, staging: str, level: int | None, attributes: list[Attributes]
    ) -> None:
        self._archive = archive
        self._suffix = ".filez" if archive else ".file"
        self._objects = os.open(objects, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._staging = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._attributes = attributes
        self._deflater = Deflater(level)

    def write_batch(self, batch: Batch) -> list[Written] | Failure:
        """All of a batch, or its first failure."""
        try:
            return [self._write(path, self._attributes[index], sha256) for path, index, sha256 in batch]
        except _Failed as failed:
            failure: Failure = failed.args[0]
            return failure

    def _write(self, path: str, attributes: Attributes, sha256: str) -> Written:
        try:
            source = os.open(path, _READ)
            try:
                status = os.fstat(source)
                size = status.st_size
                if not stat.S_ISREG(status.st_mode):
                    raise _Failed((NOT_REGULAR, path, 0, ""))
                if size > WHOLE_MAX:
                    return self._write_streamed(path, source, size, attributes, sha256)
                data = _read(source, size)
            finally:
                os.close(source)
        except OSError as error:
            raise _Failed((READ, path, error.errno or 0, error.strerror or str(error))) from error
        if len(data) != size:
            raise _Failed((CHANGED, path, 0, ""))
        # whatever becomes of it: a checksum is remembered under this digest
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise _Failed((DAMAGED, path, 0, ""))
        digest = hashlib.sha256(attributes[0])
        digest.update(data)
        checksum = digest.digest()

        def fill(fd: int) -> int:
            if self._archive:
                return _write_pieces(fd, _filez_header(size, attributes), self._deflater.compress(data))
            return _write_pieces(fd, data)

        return checksum, size, self._create(checksum, attributes, fill)

    def _write_streamed(self, path: str, source: int, size: int, attributes: Attributes, sha256: str) -> Written:
        """A file too large to hold: its checksum first, for the object's name, then its payload in pieces."""
        digest, plain = hashlib.sha256(attributes[0]), hashlib.sha256()
        for chunk in _chunks(source):
            digest.update(chunk)
            if sha256:
                plain.update(chunk)
        if sha256 and plain.hexdigest() != sha256:
            raise _Failed((DAMAGED, path, 0, ""))
        checksum = digest.digest()

        def fill(fd: int) -> int:
            again = hashlib.sha256(attributes[0])
            packer = self._deflater.stream()
            written = _write_pieces(fd, _filez_header(size, attributes)) if self._archive else 0
            for chunk in _chunks(source):
                again.update(chunk)
                written += _write_pieces(fd, packer.compress(chunk) if self._archive else chunk)
            if self._archive:
                written += _write_pieces(fd, packer.flush())
            if again.digest() != checksum:
                raise _Failed((CHANGED, path, 0, ""))
            return written

        return checksum, size, self._create(checksum, attributes, fill)

    def _create(self, checksum: bytes, attributes: Attributes, fill: Callable[[int], int]) -> int:
        """Make the object's file and fill it. Returns bytes written, -1 when the object was there."""
        text = checksum.hex()
        name = f"{text[:2]}/{text[2:]}{self._suffix}"
        try:
            fd = self._open_new(name)
            if fd < 0:
                return -1
            try:
                written = fill(fd)
                if not self._archive:
                    _apply(fd, attributes[3])
            finally:
                os.close(fd)
        except OSError as error:
            raise _Failed((WRITE, "", error.errno or 0, error.strerror or str(error))) from error
        return written

    def _open_new(self, name: str) -> int:
        try:
            os.stat(name, dir_fd=self._objects, follow_symlinks=False)
            return -1
        except FileNotFoundError:
            pass
        try:
            try:
                return os.open(name, _CREATE, 0o644, dir_fd=self._staging)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(name[:2], 0o777, dir_fd=self._staging)
                return os.open(name, _CREATE, 0o644, dir_fd=self._staging)
        except FileExistsError:
            # another worker has it, or had it
            return -1


def _apply(fd: int, inode: Inode) -> None:
    uid, gid, mode, xattrs = inode
    # in this order: a new owner takes setuid bits and capabilities away
    os.fchown(fd, uid, gid)
    os.fchmod(fd, mode)
    for name, value in xattrs:
        os.setxattr(fd, name, value)
    os.utime(fd, ns=(0, 0))


def _filez_header(size: int, attributes: Attributes) -> bytes:
    return attributes[1] + size.to_bytes(8, "big") + attributes[2]


def _read(fd: int, size: int) -> bytes:
    """All of a file that should have size bytes; one more shows that it grew."""
    data = os.read(fd, size + 1)
    while len(data) < size and (more := os.read(fd, size + 1 - len(data))):
        data += more
    return data


def _chunks(fd: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(fd, _CHUNK, offset):
        yield chunk
        offset += len(chunk)


def _write_pieces(fd: int, *pieces: bytes | memoryview) -> int:
    total = sum(map(len, pieces))
    written = os.writev(fd, pieces)
    if written < total:
        # a disk that is filling up, or a signal: the rest, or the error that tells
        rest = memoryview(b"".join(pieces))[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]
    return total
