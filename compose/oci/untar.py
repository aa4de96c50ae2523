"""Reading tar streams of image layers: POSIX ustar and pax, and GNU's extensions for long names and large numbers.

The standard library's tarfile reads a header of any claimed size into memory, keeps every entry it has seen, and takes damaged
numbers for 0. This reader keeps nothing, treats damage as an error, and limits headers as Go's archive/tar does
(maxSpecialFileSize), which unpacks layers elsewhere.

Global pax headers are skipped, as in containers/storage: they mean nothing in a layer (image-spec, layer.md, has none). Sparse
files are refused: no tool that makes layers writes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from compose.errors import ImageError
from compose.oci.tar import BLOCK

_MAX_HEADER = 1 << 20
_PIECE = 1 << 18
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_MAX_ID = (1 << 32) - 2
"""The number above it means "unchanged" to chown(2)."""
_MAX_TIME = 1 << 33
"""Seconds since 1970; later times are clamped, as not all filesystems can store them. Commits record no file times."""


class Kind(Enum):
    """Type of an entry; the values are the type flags of tar headers."""

    FILE = b"0"
    LINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


_KINDS = {b"\0": Kind.FILE, b"7": Kind.FILE, **{each.value: each for each in Kind}}


@dataclass(frozen=True, slots=True, kw_only=True)
class TarEntry:
    """One entry, without its data.

    name: as in the stream. mode: permission bits only. size: bytes of a file, else 0. mtime: seconds since 1970. link: target
    of a link. device: major and minor number. xattrs: (name, value), sorted.
    """

    name: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: str
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]


class Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Exactly size bytes; fewer only at the end."""


class TarReader:
    """Iterates over the entries of a stream. where, fault: the beginning of messages. Raises ImageError if the stream is
    damaged."""

    def __init__(self, stream: Readable, where: str, fault: str = "the layer cannot be read") -> None:
        self._stream = stream
        self._where = where
        self._fault = fault
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[TarEntry]:
        while (entry := self._next()) is not None:
            yield entry

    def data(self) -> Iterator[bytes]:
        """The data of the latest entry, in pieces."""
        while self._left:
            piece = self._stream.read(min(_PIECE, self._left))
            if not piece:
                raise self._damaged("it is cut short")
            self._left -= len(piece)
            yield piece

    def skip(self, seek: Callable[[int, int], object]) -> None:
        """Pass over the data of the latest entry. seek: method of the stream."""
        seek(self._left, os.SEEK_CUR)
        self._left = 0

    def _next(self) -> TarEntry | None:
        for _ in self.data():
            pass
        self._read(self._padding)
        self._padding = 0
        pax: dict[bytes, bytes] = {}
        long: dict[bytes, bytes] = {}
        while True:
            block = self._stream.read(BLOCK)
            if not block or block == bytes(BLOCK):
                # the two blocks of zeros may be missing: the layer's digest shows whether it is complete
                if pax or long:
                    raise self._damaged("it ends after an extended header, without the entry that this describes")
                return None
            if len(block) < BLOCK:
                raise self._damaged("it is cut short")
            self._verify_checksum(block)
            kind = block[156:157]
            if kind in (_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK):
                data = self._header(self._number(block[124:136], "size"))
                if kind == _PAX:
                    # of several the last counts, as in Go's archive/tar; all of them could fill any memory
                    pax = dict(self._records(data))
                elif kind != _GLOBAL:
                    long[kind] = data.partition(b"\0")[0]
                continue
            return self._entry(block, kind, pax, long)

    def _entry(self, block: bytes, code: bytes, pax: dict[bytes, bytes], long: dict[bytes, bytes]) -> TarEntry:
        name = pax.get(b"path") or long.get(_LONG_NAME) or _name(block)
        text = self._text(name, "a name")
        kind = _KINDS.get(code)
        if code == b"S" or any(key.startswith(_SPARSE) for key in pax):
            raise self._damaged(f"{text} is a GNU sparse file, which images cannot contain")
        if kind is None:
            raise self._damaged(f"{text} is of type {code!r}, which images cannot contain")
        if kind is Kind.FILE and name.endswith(b"/"):
            kind = Kind.DIRECTORY
        # other entries may state a size too, but have no data
        size = self._size(pax, block) if kind is Kind.FILE else 0
        self._left, self._padding = size, -size % BLOCK
        return TarEntry(
            name=text,
            kind=kind,
            mode=self._number(block[100:108], "mode") & 0o7777,
            uid=self._owner(pax.get(b"uid"), block[108:116], text),
            gid=self._owner(pax.get(b"gid"), block[116:124], text),
            size=size,
            mtime=self._time(pax.get(b"mtime"), block[136:148]),
            link=self._text(
                pax.get(b"linkpath") or long.get(_LONG_LINK) or _field(block[157:257]), f"the target of {text}"
            ),
            device=self._device(block) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
            xattrs=tuple(
                sorted((key[len(_XATTR) :], value) for key, value in pax.items() if key.startswith(_XATTR) and value)
            ),
        )

    def _header(self, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise self._damaged(f"a header of {size} bytes exceeds the limit of {_MAX_HEADER}")
        data = self._read(size)
        self._read(-size % BLOCK)
        return data

    def _records(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Parse pax records, each LENGTH KEY=VALUE and a newline; the length is that of the whole record."""
        start = 0
        while start < len(data):
            space = data.find(b" ", start, start + 20)
            length = data[start:space] if space > 0 else b""
            end = start + int(length) if length.isdigit() else 0
            record = data[space + 1 : end]
            key, equals, value = record[:-1].partition(b"=")
            if not (space < end <= len(data)) or not record.endswith(b"\n") or not equals or not key:
                raise self._damaged("a pax header has a malformed record")
            yield key, value
            start = end

    def _size(self, pax: dict[bytes, bytes], block: bytes) -> int:
        record = pax.get(b"size")
        return self._decimal(record, "size") if record else self._number(block[124:136], "size")

    def _device(self, block: bytes) -> tuple[int, int]:
        return self._number(block[329:337], "device"), self._number(block[337:345], "device")

    def _owner(self, record: bytes | None, field: bytes, name: str) -> int:
        found = self._decimal(record, "owner") if record else self._number(field, "owner")
        if found > _MAX_ID:
            raise self._damaged(f"{name} has the owner {found}, which is out of range")
        return found

    def _time(self, record: bytes | None, field: bytes) -> int:
        if not record:
            return min(self._number(field, "time", negative=True), _MAX_TIME)
        # a sign and a fraction are allowed
        whole = record.partition(b".")[0]
        seconds = self._decimal(whole.removeprefix(b"-") or b"0", "time")
        return 0 if whole.startswith(b"-") else min(seconds, _MAX_TIME)

    def _decimal(self, text: bytes, what: str) -> int:
        # no legitimate number is longer
        if not text.isdigit() or len(text) > 20:
            raise self._damaged(f"the {what} in a header is not a number")
        return int(text)

    def _number(self, field: bytes, what: str, *, negative: bool = False) -> int:
        """Octal digits, or base 256 if the first bit is set. negative: read a negative number as 0 instead of refusing it."""
        if field[0] & 0x80:
            found = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
            if not field[0] & 0x40:
                return found
            if negative:
                return 0
            raise self._damaged(f"the {what} in a header is negative")
        digits = field.strip(b" \0")
        if not digits:
            return 0
        if not set(digits) <= set(b"01234567"):
            raise self._damaged(f"the {what} in a header is not a number")
        return int(digits, 8)

    def _verify_checksum(self, block: bytes) -> None:
        recorded = self._number(block[148:156], "checksum")
        blanked = block[:148] + b" " * 8 + block[156:]
        total = sum(blanked)
        # historic writers summed signed bytes
        if total != recorded and total - 256 * sum(byte > 127 for byte in blanked) != recorded:
            raise self._damaged("a header does not match its checksum")

    def _text(self, data: bytes, what: str) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self._damaged(f"{what} is not UTF-8 and cannot be committed: {data[:200]!r}") from None

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size) if size else b""
        if len(data) < size:
            raise self._damaged("it is cut short")
        return data

    def _damaged(self, reason: str) -> ImageError:
        return ImageError(f"{self._where}: {self._fault}: {reason}")


def _field(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _name(block: bytes) -> bytes:
    # only in POSIX headers: GNU's have other fields there
    prefix = _field(block[345:500]) if block[257:263] == b"ustar\0" else b""
    name = _field(block[:100])
    return prefix + b"/" + name if prefix else name
