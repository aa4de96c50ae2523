"""The bytes of an RPM header, read without librpm, whose state is global (rpm's docs/manual/format_header.md).

Two counts (index entries, bytes of data), then the entries (tag, type, offset, count), then the data. All numbers have 32 bits
and are big-endian.
"""

from __future__ import annotations

import struct

COUNTS, ENTRY = struct.Struct(">II"), struct.Struct(">IIII")


def find(header: bytes, tag: int) -> tuple[int, int]:
    """Where the values of a tag begin, and how many there are; (0, 0) if the header lacks it. Raises struct.error."""
    count, _ = COUNTS.unpack_from(header)
    start = COUNTS.size + ENTRY.size * count
    for found, _, offset, values in ENTRY.iter_unpack(header[COUNTS.size : start]):
        if found == tag:
            return start + offset, values
    return 0, 0


def strings(header: bytes, tag: int) -> list[str]:
    """The values of a tag that has strings, none if the header lacks it. Raises struct.error."""
    start, count = find(header, tag)
    return [text.decode(errors="surrogateescape") for text in header[start:].split(b"\0", count)[:count]]
