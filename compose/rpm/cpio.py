"""Reader of the cpio archive that is an RPM's payload.

Entries are those of cpio's "newc" format (magic 070701; 070702 adds a sum that the header's digests make needless) and
rpm's own stripped ones for packages with large files (07070X), which hold nothing but an index into the header's list.
A newc entry:

    magic 6, then 13 numbers of 8 hex digits: inode, mode, uid, gid, nlink, mtime, size, device major and minor,
    rdev major and minor, size of the name with its NUL, sum; then the name, content; both padded to a multiple of 4

Source: cpio(5), and rpm's lib/cpio.c for the stripped form. The archive ends with an entry "TRAILER!!!".
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
# A path of PATH_MAX, its leading "./" and its NUL; nothing longer can be a file of the header.
_MAX_NAME = 4096 + 2
# Block padding behind the trailer, as some tools write it: at most that of a tape.
_MAX_PADDING = 64 << 10
_CHUNK = 1 << 20


class ByteSource(Protocol):
    """What an archive is read from."""

    def read(self, limit: int, /) -> bytes:
        """Between 1 and limit bytes, none at the end."""


@value
class CpioEntry:
    """A file of the archive.

    name: as written, None in a stripped entry, which has `index` instead: the file's place in the header. mode: full
    st_mode, size: bytes of content that follow; both None in a stripped entry.
    """

    name: bytes | None
    index: int | None
    mode: int | None
    size: int | None


class CpioReader:
    """Goes through an archive once: `next_entry()`, then `content()` of what it returned, to its end, and so on.

    package: what messages call the RPM. Raises PackageError for whatever is no archive, or ends too early.
    """

    def __init__(self, source: ByteSource, package: str) -> None:
        self._source = source
        self._package = package
        self._chunk = b""
        # how many bytes of the chunk have been handed out, and how many were before it
        self._place = 0
        self._before = 0

    def next_entry(self) -> CpioEntry | None:
        """The next file; None when the trailer has been read, and nothing but padding behind it."""
        magic = self._exactly(_MAGIC_SIZE)
        if magic == _STRIPPED:
            (index,) = self._numbers(_INDEX)
            self._skip_padding()
            return CpioEntry(name=None, index=index, mode=None, size=None)
        if magic not in _NEWC:
            raise self._fault(f"its payload has {magic!r} where a cpio entry should begin")
        _, mode, _, _, _, _, size, _, _, _, _, name_size, _ = self._numbers(_NUMBERS)
        if not 1 <= name_size <= _MAX_NAME:
            raise self._fault(f"its payload has a file name of {name_size} bytes")
        padded = self._exactly(name_size + self._padding(name_size))
        name = padded[: name_size - 1]
        if padded.find(0) != len(name):
            raise self._fault(f"its payload has the malformed file name {padded[:name_size]!r}")
        if name == _TRAILER:
            self._expect_end()
            return None
        return CpioEntry(name=name, index=None, mode=mode, size=size)

    def content(self, size: int) -> Iterator[memoryview]:
        """Content of the entry, `size` bytes in pieces of at most 1 MiB, each good until the next is asked for."""
        while size:
            piece = self._at_most(size)
            size -= len(piece)
            yield piece
        self._skip_padding()

    def _numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        digits = self._exactly(2 * layout.size)
        try:
            return layout.unpack(binascii.unhexlify(digits))
        except binascii.Error as error:
            raise self._fault(f"its payload has {digits!r} where hexadecimal numbers should be") from error

    def _padding(self, size: int = 0) -> int:
        """Bytes that follow the next `size` ones, up to a multiple of 4."""
        return -(self._before + self._place + size) % 4

    def _skip_padding(self) -> None:
        if padding := self._padding():
            self._exactly(padding)

    def _expect_end(self) -> None:
        seen = 0
        while self._place < len(self._chunk) or self._next_chunk():
            rest = self._at_most(_CHUNK)
            seen += len(rest)
            if seen > _MAX_PADDING or any(rest):
                raise self._fault("its payload goes on behind the end of the archive")

    def _exactly(self, size: int) -> bytes:
        end = self._place + size
        if end <= len(self._chunk):
            piece = self._chunk[self._place : end]
            self._place = end
            return piece
        pieces = []
        while size:
            part = self._at_most(size)
            pieces.append(bytes(part))
            size -= len(part)
        return b"".join(pieces)

    def _at_most(self, size: int) -> memoryview:
        if self._place == len(self._chunk) and not self._next_chunk():
            raise self._fault("its payload is cut short")
        piece = memoryview(self._chunk)[self._place : self._place + size]
        self._place += len(piece)
        return piece

    def _next_chunk(self) -> bool:
        """False at the end."""
        self._before += len(self._chunk)
        self._chunk, self._place = self._source.read(_CHUNK), 0
        return bool(self._chunk)

    def _fault(self, message: str) -> PackageError:
        return PackageError(f"{self._package}: {message}")
