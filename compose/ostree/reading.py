"""Read content objects of a repository in pieces, so that large ones need no more memory."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from compose.fs import CHUNK, chunks
from compose.ostree.config import Mode
from compose.ostree.gvariant import encode
from compose.ostree.objects import (
    OSTREEMETA,
    FileInfo,
    check_mode,
    decode_dirmeta,
    decode_filez_header,
    encode_xattrs,
    filez_header,
)

_INPUT = 256 << 10
"""Bytes of a deflate stream that are read at once."""
_USUAL_HEADER = 512
"""Bytes that contain most headers."""
_MAX_HEADER = 1 << 20
"""Bytes of a header that is accepted: a path and the xattrs of an inode are much smaller."""


@dataclass(frozen=True, slots=True)
class OpenContent:
    """An open content object, a context manager that closes it. size: of a regular file's contents in bytes, as the object
    claims; 0 for a symlink. pieces: the contents, in pieces of at most fs.CHUNK bytes, to be iterated over once. Iterating
    raises OSError, and ValueError for damage. fd: of the open file, -1 for none.

    Not made by contextlib, which takes longer than reading a header; there are tens of thousands in a commit.
    """

    info: FileInfo
    size: int
    pieces: Iterator[bytes]
    fd: int = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the object; its pieces cannot be read any more."""
        if self.fd >= 0:
            os.close(self.fd)


def verified(content: OpenContent, checksum: str) -> Iterator[bytes]:
    """Yield the pieces. Raises ValueError at the end if the object does not have the checksum, 64 hex digits."""
    digest = hashlib.sha256(content.info.header())
    for piece in content.pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != checksum:
        raise ValueError("its checksum differs")


def open_object(path: str, mode: Mode) -> OpenContent:
    """Open the file of a content object, without verifying its checksum. mode: of its repository. Raises OSError, and
    ValueError for a malformed object."""
    if mode is Mode.BARE and stat.S_ISLNK((status := os.lstat(path)).st_mode):
        return OpenContent(_of_inode(path, status, os.readlink(path)), 0, iter(()))
    # O_NONBLOCK: do not block on a fifo
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        match mode:
            case Mode.ARCHIVE:
                return _of_archive(fd)
            case Mode.BARE_USER:
                return _of_bare_user(fd)
            case _:
                status = os.fstat(fd)
                check_mode(status.st_mode, stat.S_IFREG)
                return OpenContent(_of_inode(fd, status, None), status.st_size, chunks(fd), fd)
    except BaseException:
        os.close(fd)
        raise


def _of_inode(file: str | int, status: os.stat_result, target: str | None) -> FileInfo:
    """Attributes of an object in a bare repository. file: the path of a symlink, a descriptor of a regular file."""
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
        # a symlink is a file that contains its target, NUL-terminated
        target = os.read(fd, CHUNK).rstrip(b"\0").decode()
        if "\0" in target:
            raise ValueError("its target contains a NUL")
    info = FileInfo(uid=owner.uid, gid=owner.gid, mode=owner.mode, xattrs=owner.xattrs, target=target)
    if target is not None:
        return OpenContent(info, 0, iter(()), fd)
    return OpenContent(info, os.fstat(fd).st_size, chunks(fd), fd)


def _of_archive(fd: int) -> OpenContent:
    head = os.pread(fd, _USUAL_HEADER, 0)
    length = int.from_bytes(head[:4], "big")
    if length > _MAX_HEADER:
        raise ValueError(f"its header has {length} bytes")
    if len(head) < 8 + length:
        head = os.pread(fd, 8 + length, 0)
    # large ones are not kept: they are rare, or an attack
    decoded = _decoded if 8 + length <= _USUAL_HEADER else _decoded.__wrapped__
    info = decoded(head[:8], head[16 : 8 + length])
    size = int.from_bytes(head[8:16], "big")
    if info.target is None:
        return OpenContent(info, size, _inflated(fd, 8 + length, size), fd)
    if size or os.fstat(fd).st_size > 8 + length:
        raise ValueError("there is more data after a symlink")
    return OpenContent(info, size, iter(()), fd)


@lru_cache(maxsize=1000)
def _decoded(before: bytes, after: bytes) -> FileInfo:
    """What a .filez header says, given what it has before and after the size, which most files share with many others. Raises
    ValueError."""
    info, _ = decode_filez_header(bytes(8) + after)
    target = b"" if info.target is None else info.target.encode()
    # the checksum covers the decoded attributes, not these bytes: padding between offsets could hide any amount of data
    found, owner = before + bytes(8) + after, (info.uid, info.gid, info.mode, target)
    if found != filez_header(0, *owner, encode_xattrs(info.xattrs)):
        # older versions of libostree sort xattrs for the checksum alone
        given = [(name + b"\0", value) for name, value in info.xattrs]
        if found != filez_header(0, *owner, encode("a(ayay)", given)):
            raise ValueError("its header is not in normal form")
    return info


def _inflated(fd: int, place: int, size: int) -> Iterator[bytes]:
    """Inflate a stream at an offset, which must give `size` bytes. Stops at more, since a small stream may inflate to any
    size."""
    unpacker, left = zlib.decompressobj(-15), size
    rest, packed = chunks(fd, place, _INPUT), b""
    while not unpacker.eof:
        try:
            piece = unpacker.decompress(packed, min(CHUNK, left + 1))
        except zlib.error as error:
            raise ValueError(str(error)) from error
        packed = unpacker.unconsumed_tail
        left -= len(piece)
        if left < 0:
            raise ValueError(f"it claims {size} bytes and has more")
        if piece:
            # there may be more output, even if all input is consumed
            yield piece
        elif not packed and not (packed := next(rest, b"")):
            break
    if left:
        raise ValueError(f"it claims {size} bytes and has {size - left}")
    if unpacker.unused_data or packed or next(rest, b""):
        raise ValueError("there is more data after its end")
