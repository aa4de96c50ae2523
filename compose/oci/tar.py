"""Writing tar streams: POSIX ustar headers, GNU extensions for long names, pax records for xattrs.

Everything that could differ between machines is 0 or empty: times, names of users and groups. Numbers too large for octal
digits are in base 256 in the header itself, not in a pax record: ostree-ext's importer takes size and owner from there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

BLOCK = 512
"""Bytes; every entry begins at a multiple of it."""
END = bytes(2 * BLOCK)
"""Marks the end of a stream."""

REGULAR, LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"
_PAX, _LONG_NAME, _LONG_LINK = b"x", b"L", b"K"
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
# name, mode, uid, gid, size, mtime, checksum, type, link, magic, names of user and group, device, prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_NAME, _PREFIX = 100, 155
_ZERO = b"0000000\0"
_EPOCH = b"00000000000\0"
_BLANK = b"        "


def entry(
    name: str, kind: bytes, *, mode: int, uid: int = 0, gid: int = 0, size: int = 0, link: str = "", more: bytes = b""
) -> bytes:
    """All headers of an entry. mode: permission bits only. size: bytes of data that follow. link: target of a LINK or SYMLINK.
    more: headers that come before, from xattrs()."""
    path, target = name.encode(), link.encode()
    prefix, magic = b"", _USTAR
    if len(path) > _NAME:
        cut = path.rfind(b"/", 0, _PREFIX + 1)
        if 0 < cut < len(path) - 1 and len(path) - cut - 1 <= _NAME:
            prefix, path = path[:cut], path[cut + 1 :]
        else:
            more += _long(_LONG_NAME, path)
            magic = _GNU
    if len(target) > _NAME:
        more += _long(_LONG_LINK, target)
        # a header with GNU's magic has other fields in place of the prefix
        if not prefix:
            magic = _GNU
    return more + _header(path, kind, mode, uid, gid, size, target, magic, prefix)


def padding(size: int) -> bytes:
    """The zeros that follow `size` bytes of data."""
    return bytes(-size % BLOCK)


def file(name: str, data: bytes) -> bytes:
    """A complete regular file owned by root, 0644."""
    return entry(name, REGULAR, mode=0o644, size=len(data)) + data + padding(len(data))


def xattrs(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A pax header that gives the next entry these xattrs, (name, value)."""
    if not pairs:
        return b""
    records = b"".join(_record(b"SCHILY.xattr." + name, value) for name, value in pairs)
    return (
        _header(b"././@PaxHeader", _PAX, 0o644, 0, 0, len(records), b"", _USTAR, b"") + records + padding(len(records))
    )


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record, LENGTH KEY=VALUE and a newline; the length includes its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _long(kind: bytes, text: bytes) -> bytes:
    data = text + b"\0"
    return _header(b"././@LongLink", kind, 0o644, 0, 0, len(data), b"", _GNU, b"") + data + padding(len(data))


def _header(
    path: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, target: bytes, magic: bytes, prefix: bytes
) -> bytes:
    owner = _ZERO if not uid else _number(uid, 8)
    group = _ZERO if not gid else _number(gid, 8)
    fields = (path, _number(mode, 8), owner, group, _number(size, 12), _EPOCH)
    more = (kind, target[:_NAME], magic, b"", b"", b"", b"", prefix)
    total = sum(_HEADER.pack(*fields, _BLANK, *more))
    return _HEADER.pack(*fields, b"%06o\0 " % total, *more)


def _number(number: int, width: int) -> bytes:
    """Octal digits and NUL, or base 256 for a number that they cannot hold."""
    if number < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, number)
    return b"\x80" + number.to_bytes(width - 1, "big")
