"""List the files of an initramfs: consecutive cpio archives in newc format, which may be compressed.

Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import lzma
import re
import stat
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

import zstandard

_MAGICS = (b"070701", b"070702")
_HEADER_SIZE = 110
_NUMBERS = re.compile(rb"[0-9A-Fa-f]{104}")
_TRAILER = b"TRAILER!!!"
_ZEROS = re.compile(rb"\0+")
_MAX_SIZE = 1 << 30
"""Bytes of an archive that is decompressed in memory."""
_PIECE = 1 << 10
"""Bytes that are decompressed at once: 4 bytes of zstd may become 128 KiB."""


class _Unpacker(Protocol):
    """The common interface of zlib, lzma and zstandard."""

    @property
    def eof(self) -> bool:
        """Was the end of the stream reached?"""

    @property
    def unused_data(self) -> bytes:
        """Data after the end of the stream."""

    def decompress(self, data: bytes, /) -> bytes: ...


_COMPRESSIONS: tuple[tuple[bytes, Callable[[], _Unpacker]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    (b"\x28\xb5\x2f\xfd", lambda: zstandard.ZstdDecompressor().decompressobj()),
    (b"\xfd7zXZ\0", lzma.LZMADecompressor),
)


def files(image: bytes) -> Iterator[str]:
    """Yield the relative paths of files and symlinks in all archives, in order.

    Archives are decompressed in memory. Raises ValueError if image is not an initramfs, is damaged, has a compression other
    than gzip, zstd or xz, or more than 1 GiB in an archive.
    """
    at = 0
    while (at := _after_zeros(image, at)) < len(image):
        if image.startswith(_MAGICS, at):
            at = yield from _archive(image, at)
            continue
        unpacker = next((make() for magic, make in _COMPRESSIONS if image.startswith(magic, at)), None)
        if unpacker is None:
            raise ValueError(f"there is {image[at : at + 6]!r} where an archive should begin")
        archives, at = _decompressed(unpacker, image, at)
        inner = 0
        while (inner := _after_zeros(archives, inner)) < len(archives):
            inner = yield from _archive(archives, inner)


def _after_zeros(data: bytes, at: int) -> int:
    found = _ZEROS.match(data, at)
    return at if found is None else found.end()


def _decompressed(unpacker: _Unpacker, data: bytes, at: int) -> tuple[bytes, int]:
    """What the stream at an offset of data holds, and the offset of its end."""
    found = bytearray()
    view = memoryview(data)
    for start in range(at, len(data), _PIECE):
        try:
            found += unpacker.decompress(bytes(view[start : start + _PIECE]))
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise ValueError(str(error)) from error
        if len(found) > _MAX_SIZE:
            raise ValueError(f"an archive in it has more than {_MAX_SIZE} bytes")
        if unpacker.eof:
            return bytes(found), min(start + _PIECE, len(data)) - len(unpacker.unused_data)
    raise ValueError("an archive in it is truncated")


def _archive(image: bytes, begin: int) -> Generator[str, None, int]:
    """Yield the files of the archive at an offset of image. Returns the offset of its end."""
    at = begin
    while True:
        # magic, then 13 numbers of 8 hex digits: of these, the 2nd is the mode, the 7th the size, the 12th the name's size
        header = image[at : at + _HEADER_SIZE]
        if len(header) < _HEADER_SIZE or not header.startswith(_MAGICS):
            raise ValueError("an archive in it is truncated")
        if not _NUMBERS.fullmatch(header, 6):
            raise ValueError("an archive in it has a damaged header")
        mode, size, name_size = (int(header[6 + 8 * place :][:8], 16) for place in (1, 6, 11))
        start = at + _HEADER_SIZE
        name = image[start : start + name_size - 1]
        at = begin + _aligned(_aligned(start + name_size - begin) + size)
        if name == _TRAILER:
            return at
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            yield name.removeprefix(b"./").decode("utf-8", "surrogateescape")


def _aligned(offset: int) -> int:
    return offset + -offset % 4
