"""Content objects of a repository, read in pieces: memory does not grow with them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from compose.fs import CHUNK, chunks
from compose.ostree.config import Mode
from compose.ostree.objects import (
    OSTREEMETA,
    FileInfo,
    check_mode,
    decode_dirmeta,
    decode_filez_header,
    encode_xattrs,
    filez_header,
)

_PACKED = 256 << 10
"""Bytes that are inflated at once."""
_MOST_HEADER = 1 << 20
"""Bytes: a path, and the xattrs of an inode."""


@dataclass(frozen=True, slots=True)
class OpenContent:
    """A content object that is open. size: bytes of a regular file as its object tells it, 0 of a symlink. pieces: these bytes,
    fs.CHUNK of them at most, to be read once; they are what the object's checksum says when the end is reached, and not
    before."""

    info: FileInfo
    size: int
    pieces: Iterator[bytes]


def verified(content: OpenContent, checksum: str) -> Iterator[bytes]:
    """Its pieces. Raises ValueError at the end when they are not what the checksum, 64 hex digits, says."""
    digest = hashlib.sha256(content.info.header())
    for piece in content.pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != checksum:
        raise ValueError("its checksum differs")


@contextmanager
def open_object(path: str, mode: Mode) -> Iterator[OpenContent]:
    """The object at a path, as it lies in a repository of a mode; nothing is compared with its checksum. Raises OSError, and
    ValueError for what is no such object; reading the pieces does so too."""
    if mode is Mode.BARE and stat.S_ISLNK((status := os.lstat(path)).st_mode):
        yield OpenContent(_of_inode(path, status, os.readlink(path)), 0, iter(()))
        return
    # what is no file after all must not be waited for
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        match mode:
            case Mode.ARCHIVE:
                yield _of_archive(fd)
            case Mode.BARE_USER:
                yield _of_bare_user(fd)
            case _:
                status = os.fstat(fd)
                check_mode(status.st_mode, stat.S_IFREG)
                yield OpenContent(_of_inode(fd, status, None), status.st_size, chunks(fd))
    finally:
        os.close(fd)


def _of_inode(file: str | int, status: os.stat_result, target: str | None) -> FileInfo:
    """file: the path of a symlink, a descriptor of anything else."""
    follow = isinstance(file, int)
    xattrs = [
        (os.fsencode(name), os.getxattr(file, name, follow_symlinks=follow))
        for name in os.listxattr(file, follow_symlinks=follow)
    ]
    return FileInfo(
        uid=status.st_uid, gid=status.st_gid, mode=status.st_mode, xattrs=tuple(sorted(xattrs)), target=target
    )


def _of_bare_user(fd: int) -> OpenContent:
    try:
        owner = decode_dirmeta(os.getxattr(fd, OSTREEMETA))
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        raise ValueError(f"it has no {OSTREEMETA}") from None
    check_mode(owner.mode, stat.S_IFREG, stat.S_IFLNK)
    target = None
    if stat.S_ISLNK(owner.mode):
        # a file with its target, NUL-terminated
        target = os.read(fd, CHUNK).rstrip(b"\0").decode()
        if "\0" in target:
            raise ValueError("its target holds NUL")
    info = FileInfo(uid=owner.uid, gid=owner.gid, mode=owner.mode, xattrs=owner.xattrs, target=target)
    if target is not None:
        return OpenContent(info, 0, iter(()))
    return OpenContent(info, os.fstat(fd).st_size, chunks(fd))


def _of_archive(fd: int) -> OpenContent:
    length = int.from_bytes(os.pread(fd, 4, 0), "big")
    if length > _MOST_HEADER:
        raise ValueError(f"its header has {length} bytes")
    head = os.pread(fd, 8 + length, 0)
    info, size = decode_filez_header(head[8:])
    target = b"" if info.target is None else info.target.encode()
    # the checksum is of what it says, not of its bytes: these may say the same with any amount of others among them
    if head != filez_header(size, info.uid, info.gid, info.mode, target, encode_xattrs(info.xattrs)):
        raise ValueError("its header is not as it is written")
    if info.target is None:
        return OpenContent(info, size, _inflated(fd, 8 + length, size))
    if size or os.fstat(fd).st_size > 8 + length:
        raise ValueError("there is more behind a symlink")
    return OpenContent(info, size, iter(()))


def _inflated(fd: int, place: int, size: int) -> Iterator[bytes]:
    """size: bytes that there should be. No more than the header says: a stream may swell to anything."""
    unpacker, left = zlib.decompressobj(-15), size
    rest, packed = chunks(fd, place, _PACKED), b""
    while not unpacker.eof:
        try:
            piece = unpacker.decompress(packed, min(CHUNK, left + 1))
        except zlib.error as error:
            raise ValueError(str(error)) from error
        packed = unpacker.unconsumed_tail
        left -= len(piece)
        if left < 0:
            raise ValueError(f"it says to have {size} bytes, and has more")
        if piece:
            # there may be more, also of what is consumed
            yield piece
        elif not packed and not (packed := next(rest, b"")):
            break
    if left:
        raise ValueError(f"it says to have {size} bytes, and has {size - left}")
    if unpacker.unused_data or packed or next(rest, b""):
        raise ValueError("there is more behind its end")
