"""Tar streams as layers of images have them: POSIX ustar and pax, and what GNU tar has for long names and large numbers.

tarfile would read them too, but it takes a header of any size into memory that a stream claims to have, keeps every entry that
it has seen, and reads damaged numbers as 0. Here a header has at most what Go's reader allows, which unpacks layers
elsewhere (archive/tar, maxSpecialFileSize), nothing is kept, and what is damaged is an error.

Global pax headers say nothing about layers (image-spec, layer.md, has none; containers/storage skips them). Sparse files are
refused: who makes layers writes none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from compose.errors import ImageError
from compose.oci.tar import BLOCK

_MOST_HEADER = 1 << 20
_PIECE = 1 << 18
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_MOST_ID = (1 << 32) - 2
"""The one above means "none" to chown(2)."""
_LAST_TIME = 1 << 33
"""Seconds since 1970; nothing that is later can be told from it on all filesystems. No commit has times of files."""


class Kind(Enum):
    """What an entry is. The values are those of a header."""

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
    """name: as the stream has it. mode: permissions alone. size: bytes of a file. mtime: seconds since 1970. link: where a
    link leads. device: major and minor number. xattrs: (name, value), sorted."""

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
        """That many bytes; fewer at the end alone."""


class TarReader:
    """The entries of one stream, in order. where: for messages. Raises ImageError for what is damaged."""

    def __init__(self, stream: Readable, where: str) -> None:
        self._stream = stream
        self._where = where
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[TarEntry]:
        while (entry := self._next()) is not None:
            yield entry

    def data(self) -> Iterator[bytes]:
        """What the file has that came last, in pieces."""
        while self._left:
            piece = self._stream.read(min(_PIECE, self._left))
            if not piece:
                raise self._damaged("it is cut short")
            self._left -= len(piece)
            yield piece

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
                # a stream without its two blocks of zeros is whole too: its digest says so
                if pax or long:
                    raise self._damaged("it ends behind a header that is about another")
                return None
            if len(block) < BLOCK:
                raise self._damaged("it is cut short")
            self._check(block)
            kind = block[156:157]
            if kind in (_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK):
                data = self._header(self._number(block[124:136], "size"))
                if kind == _PAX:
                    pax.update(self._records(data))
                elif kind != _GLOBAL:
                    long[kind] = data.partition(b"\0")[0]
                continue
            return self._entry(block, kind, pax, long)

    def _entry(self, block: bytes, code: bytes, pax: dict[bytes, bytes], long: dict[bytes, bytes]) -> TarEntry:
        name = pax.get(b"path") or long.get(_LONG_NAME) or _name(block)
        text = self._text(name, "a name")
        kind = _KINDS.get(code)
        if code == b"S" or any(key.startswith(_SPARSE) for key in pax):
            raise self._damaged(f"{text} is a sparse file of GNU tar, which no layer has")
        if kind is None:
            raise self._damaged(f"{text} is of type {code!r}, which no layer has")
        if kind is Kind.FILE and name.endswith(b"/"):
            kind = Kind.DIRECTORY
        # others say how large something is that is not there
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
            link=self._text(pax.get(b"linkpath") or long.get(_LONG_LINK) or _field(block[157:257]), f"the link {text}"),
            device=self._device(block) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
            xattrs=tuple(
                sorted((key[len(_XATTR) :], value) for key, value in pax.items() if key.startswith(_XATTR) and value)
            ),
        )

    def _header(self, size: int) -> bytes:
        if size > _MOST_HEADER:
            raise self._damaged(f"a header has {size} bytes, and {_MOST_HEADER} are the most that is read")
        data = self._read(size)
        self._read(-size % BLOCK)
        return data

    def _records(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """LENGTH KEY=VALUE and a newline each, where the length counts all of it."""
        place = 0
        while place < len(data):
            space = data.find(b" ", place, place + 20)
            length = data[place:space] if space > 0 else b""
            end = place + int(length) if length.isdigit() else 0
            record = data[space + 1 : end]
            key, equals, value = record[:-1].partition(b"=")
            if not (space < end <= len(data)) or not record.endswith(b"\n") or not equals or not key:
                raise self._damaged("a pax header is none")
            yield key, value
            place = end

    def _size(self, pax: dict[bytes, bytes], block: bytes) -> int:
        said = pax.get(b"size")
        return self._decimal(said, "size") if said else self._number(block[124:136], "size")

    def _device(self, block: bytes) -> tuple[int, int]:
        return self._number(block[329:337], "device"), self._number(block[337:345], "device")

    def _owner(self, said: bytes | None, field: bytes, name: str) -> int:
        found = self._decimal(said, "owner") if said else self._number(field, "owner")
        if found > _MOST_ID:
            raise self._damaged(f"{name} has the owner {found}, which is none")
        return found

    def _time(self, said: bytes | None, field: bytes) -> int:
        if not said:
            return min(self._number(field, "time", negative=True), _LAST_TIME)
        # a fraction may follow, and a sign stand before it
        whole = said.partition(b".")[0]
        seconds = self._decimal(whole.removeprefix(b"-") or b"0", "time")
        return 0 if whole.startswith(b"-") else min(seconds, _LAST_TIME)

    def _decimal(self, text: bytes, what: str) -> int:
        # more digits than any number here has
        if not text.isdigit() or len(text) > 20:
            raise self._damaged(f"a header has no number for {what}")
        return int(text)

    def _number(self, field: bytes, what: str, *, negative: bool = False) -> int:
        """Octal digits, or base 256 where the first bit is set; below 0 only what may be, which counts as 0."""
        if field[0] & 0x80:
            found = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
            if not field[0] & 0x40:
                return found
            if negative:
                return 0
            raise self._damaged(f"a header has a number below 0 for {what}")
        digits = field.strip(b" \0")
        if not digits:
            return 0
        if not set(digits) <= set(b"01234567"):
            raise self._damaged(f"a header has no number for {what}")
        return int(digits, 8)

    def _check(self, block: bytes) -> None:
        said = self._number(block[148:156], "checksum")
        rest = block[:148] + b" " * 8 + block[156:]
        found = sum(rest)
        # old writers took bytes for signed
        if found != said and found - 256 * sum(each > 127 for each in rest) != said:
            raise self._damaged("a header has not the checksum that it says")

    def _text(self, data: bytes, what: str) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self._damaged(f"{what} is not UTF-8, which a commit cannot hold: {data[:200]!r}") from None

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size) if size else b""
        if len(data) < size:
            raise self._damaged("it is cut short")
        return data

    def _damaged(self, how: str) -> ImageError:
        return ImageError(f"{self._where}: is no layer that can be read: {how}")


def _field(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _name(block: bytes) -> bytes:
    # where GNU's header has other things is nothing of the name
    prefix = _field(block[345:500]) if block[257:263] == b"ustar\0" else b""
    name = _field(block[:100])
    return prefix + b"/" + name if prefix else name
