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
from dataclasses import dataclass
from typing import Protocol

from compose.errors import PackageError

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


@dataclass(frozen=True, slots=True)
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
        self._chunk = memoryview(b"")
        # bytes handed out since the beginning, for the padding
        self._offset = 0

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
        name = self._exactly(name_size)
        self._skip_padding()
        if name[-1] or 0 in name[:-1]:
            raise self._fault(f"its payload has the malformed file name {name!r}")
        name = name[:-1]
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

    def _skip_padding(self) -> None:
        if excess := self._offset % 4:
            self._exactly(4 - excess)

    def _expect_end(self) -> None:
        seen = 0
        while piece := self._some():
            seen += len(piece)
            if seen > _MAX_PADDING or any(piece):
                raise self._fault("its payload goes on behind the end of the archive")

    def _exactly(self, size: int) -> bytes:
        if len(self._chunk) >= size:
            piece = bytes(self._chunk[:size])
            self._chunk = self._chunk[size:]
            self._offset += size
            return piece
        pieces = []
        while size:
            part = self._at_most(size)
            pieces.append(bytes(part))
            size -= len(part)
        return b"".join(pieces)

    def _at_most(self, size: int) -> memoryview:
        if not self._chunk:
            self._chunk = memoryview(self._source.read(_CHUNK))
            if not self._chunk:
                raise self._fault("its payload is cut short")
        piece = self._chunk[:size]
        self._chunk = self._chunk[size:]
        self._offset += len(piece)
        return piece

    def _some(self) -> memoryview:
        piece = self._chunk or memoryview(self._source.read(_CHUNK))
        self._chunk = memoryview(b"")
        return piece

    def _fault(self, message: str) -> PackageError:
        return PackageError(f"{self._package}: {message}")
