"""List the files of an initramfs: consecutive cpio archives in newc format, which may be compressed.

Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import lzma
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import zstandard

_MAGICS = (b"070701", b"070702")
_HEADER_SIZE = 110
_NUMBERS = re.compile(rb"[0-9A-Fa-f]{104}")
_TRAILER = b"TRAILER!!!"
_LONGEST_NAME = 4096
"""PATH_MAX: the kernel reads no longer name."""
_ZEROS = re.compile(rb"\0*")
_MAX_SIZE = 1 << 30
"""Bytes that a compressed archive may have: it takes seconds to read."""
_PIECE = 512
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


class _Pieces:
    """Reads pieces of bytes as one, and holds one of them at a time."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held, self._at = b"", 0

    def has_more(self) -> bool:
        """Make the held piece one with bytes that were not read; False at the end."""
        while self._at >= len(self._held):
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._held, self._at = piece, 0
        return True

    def starts_with(self, prefixes: bytes | tuple[bytes, ...]) -> bool:
        """Looks only at the held piece."""
        return self._held.startswith(prefixes, self._at)

    def read(self, size: int) -> bytes:
        """The next bytes; fewer at the end."""
        found = []
        while size and self.has_more():
            found.append(self._held[self._at : self._at + size])
            self._at += len(found[-1])
            size -= len(found[-1])
        return b"".join(found)

    def unread(self, size: int) -> None:
        """Go back, within the held piece."""
        self._at -= size

    def skip(self, size: int) -> None:
        while size and self.has_more():
            count = min(size, len(self._held) - self._at)
            self._at += count
            size -= count

    def skip_zeros(self) -> bool:
        """Is there anything after them?"""
        while self.has_more():
            found = _ZEROS.match(self._held, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._held):
                return True
        return False


def files(image: bytes) -> Iterator[str]:
    """Yield the relative paths of files and symlinks in all archives, in order.

    Raises ValueError if image is not an initramfs, is damaged, or has a compression other than gzip, zstd or xz, or more than 1
    GiB in an archive.
    """
    packed = _Pieces([image])
    while packed.skip_zeros():
        if packed.starts_with(_MAGICS):
            yield from _archive(packed)
            continue
        unpacker = next((make() for magic, make in _COMPRESSIONS if packed.starts_with(magic)), None)
        if unpacker is None:
            raise ValueError(f"there is {packed.read(6)!r} where an archive should begin")
        archives = _Pieces(_decompressed(unpacker, packed))
        while archives.skip_zeros():
            yield from _archive(archives)


def _decompressed(unpacker: _Unpacker, packed: _Pieces) -> Iterator[bytes]:
    """Yield what a stream holds, and leave `packed` at its end."""
    total = 0
    while not unpacker.eof:
        piece = packed.read(_PIECE)
        if not piece:
            raise ValueError("an archive in it is truncated")
        try:
            found = unpacker.decompress(piece)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise ValueError(str(error)) from error
        total += len(found)
        if total > _MAX_SIZE:
            raise ValueError(f"an archive in it has more than {_MAX_SIZE} bytes")
        yield found
    packed.unread(len(unpacker.unused_data))


def _archive(data: _Pieces) -> Iterator[str]:
    """Yield the files of the archive that begins here, and leave `data` at its end."""
    name = b""
    while name != _TRAILER:
        # magic, then 13 numbers of 8 hex digits: of these, the 2nd is the mode, the 7th the size, the 12th the name's size
        header = data.read(_HEADER_SIZE)
        if len(header) < _HEADER_SIZE or not header.startswith(_MAGICS):
            raise ValueError("an archive in it is truncated")
        if not _NUMBERS.fullmatch(header, 6):
            raise ValueError("an archive in it has a damaged header")
        mode, size, name_size = (int(header[6 + 8 * place :][:8], 16) for place in (1, 6, 11))
        if name_size > _LONGEST_NAME:
            raise ValueError("an archive in it has a name that is too long")
        name = data.read(name_size)[:-1]
        # names and contents are padded to four bytes
        data.skip(-(_HEADER_SIZE + name_size) % 4 + size + -size % 4)
        if name != _TRAILER and (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            yield name.removeprefix(b"./").decode("utf-8", "surrogateescape")
