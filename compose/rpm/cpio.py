"""Reader of cpio archives, as in the payloads of RPMs.

Entries are in cpio's "newc" format (magic 070701; 070702 adds a checksum, redundant beside the header's digests) or in
rpm's stripped format for packages with large files (07070X), where they hold nothing but an index into the header's
list of files. A newc entry:

    magic 6, then 13 numbers of 8 hex digits: inode, mode, uid, gid, nlink, mtime, size, device major and minor,
    rdev major and minor, size of the name with its NUL, checksum; then name and content, each padded to a multiple
    of 4 in the archive

The archive ends with an entry named "TRAILER!!!". Source: cpio(5), and rpm's lib/cpio.c for the stripped format.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterator
from typing import Protocol

from compose.errors import PackageError
from compose.values import value

_MAGIC_SIZE = 6
_NEWC = (b"070701", b"070702")
_STRIPPED = b"07070X"
_NUMBERS = struct.Struct(">13I")
_INDEX = struct.Struct(">I")
_TRAILER = b"TRAILER!!!"
# PATH_MAX, which includes the NUL, and a leading "./": no file of the header has a longer name.
_MAX_NAME = 4096 + 2
# Some tools pad the archive after the trailer, at most to the block size of a tape.
_MAX_PADDING = 64 << 10
_CHUNK = 1 << 20


class ByteSource(Protocol):
    """Source of an archive's bytes."""

    def read(self, limit: int, /) -> bytes:
        """Return between 1 and limit bytes, none at the end."""


@value
class CpioEntry:
    """One file of the archive.

    name: as written. mode: full st_mode. size: bytes of content that follow. All three are None in a stripped entry,
    which has `index` instead: the file's position in the header.
    """

    name: bytes | None
    index: int | None
    mode: int | None
    size: int | None


class CpioReader:
    """Reads an archive once: `next_entry()`, then its `content()` to the end, then the next entry, and so on.

    package: what messages call the RPM. Raises PackageError for a malformed or truncated archive.
    """

    def __init__(self, source: ByteSource, package: str) -> None:
        self._source = source
        self._package = package
        self._chunk = b""
        # position in the chunk, and offset of the chunk in the archive
        self._position = 0
        self._chunk_offset = 0

    def next_entry(self) -> CpioEntry | None:
        """Return the next file, or None at the trailer, which only padding may follow."""
        magic = self._read_exactly(_MAGIC_SIZE)
        if magic == _STRIPPED:
            (index,) = self._read_numbers(_INDEX)
            self._skip_padding()
            return CpioEntry(name=None, index=index, mode=None, size=None)
        if magic not in _NEWC:
            raise self._fault(f"its payload has {magic!r} where a cpio entry should begin")
        _, mode, _, _, _, _, size, _, _, _, _, name_size, _ = self._read_numbers(_NUMBERS)
        if not 1 <= name_size <= _MAX_NAME:
            raise self._fault(f"its payload has a file name of {name_size} bytes")
        padded = self._read_exactly(name_size + self._padding(name_size))
        name = padded[: name_size - 1]
        if padded.find(0) != len(name):
            raise self._fault(f"its payload has the malformed file name {padded[:name_size]!r}")
        if name == _TRAILER:
            self._expect_end()
            return None
        return CpioEntry(name=name, index=None, mode=mode, size=size)

    def content(self, size: int) -> Iterator[memoryview]:
        """Yield the entry's content, `size` bytes in pieces of at most 1 MiB, each valid until the next is read."""
        while size:
            piece = self._read_at_most(size)
            size -= len(piece)
            yield piece
        self._skip_padding()

    def _read_numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        digits = self._read_exactly(2 * layout.size)
        try:
            return layout.unpack(binascii.unhexlify(digits))
        except binascii.Error as error:
            raise self._fault(f"its payload has {digits!r} where hexadecimal numbers should be") from error

    def _padding(self, size: int = 0) -> int:
        """Return the number of padding bytes after the next `size` bytes, up to a multiple of 4."""
        return -(self._chunk_offset + self._position + size) % 4

    def _skip_padding(self) -> None:
        if padding := self._padding():
            self._read_exactly(padding)

    def _expect_end(self) -> None:
        seen = 0
        while self._position < len(self._chunk) or self._read_chunk():
            rest = self._read_at_most(_CHUNK)
            seen += len(rest)
            if seen > _MAX_PADDING or any(rest):
                raise self._fault("its payload continues after the end of the archive")

    def _read_exactly(self, size: int) -> bytes:
        end = self._position + size
        if end <= len(self._chunk):
            piece = self._chunk[self._position : end]
            self._position = end
            return piece
        pieces = []
        while size:
            part = self._read_at_most(size)
            pieces.append(bytes(part))
            size -= len(part)
        return b"".join(pieces)

    def _read_at_most(self, size: int) -> memoryview:
        if self._position == len(self._chunk) and not self._read_chunk():
            raise self._fault("its payload is truncated")
        piece = memoryview(self._chunk)[self._position : self._position + size]
        self._position += len(piece)
        return piece

    def _read_chunk(self) -> bool:
        """Read the next chunk; return False at the end."""
        self._chunk_offset += len(self._chunk)
        self._chunk, self._position = self._source.read(_CHUNK), 0
        return bool(self._chunk)

    def _fault(self, message: str) -> PackageError:
        return PackageError(f"{self._package}: {message}")
