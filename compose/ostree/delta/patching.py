"""Patches for libostree's bspatch, made here: a program that was rebuilt has the same code at other addresses.

The runs that two files have in common say how far each place has moved. Between two such runs most bytes are still the same,
and those that are not have often changed by the same amount: the bytewise difference of the files is mostly zeros, which
compress to next to nothing. bsdiff works the same way, finds more, and takes longer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from compose.ostree.delta.layout import Segment
from compose.ostree.delta.threads import Check, never

_BLOCK = 128
"""Bytes that are taken from the old file together, or not at all."""
_LEAST_SAME = 0.4
"""Part of a block that must be the same in the old file for it to be taken from there."""
_AT_ONCE = 64 << 10
_MOVES_BACK = 1 << 63
_row = struct.Struct("<QQQ")


@dataclass(slots=True)
class _Region:
    """Bytes of the new file. shift: what to add to a place in it to get the place in the old file; None for what is new."""

    begin: int
    end: int
    shift: int | None


def patch(old: bytes, new: bytes, segments: Sequence[Segment], check: Check = never) -> bytes:
    """A patch from which libostree's bspatch makes `new`; bsdiff.py has the format. segments: of common_segments(). Raises
    Cancelled."""
    out = bytearray()
    place = 0
    regions = _joined(_regions(old, new, segments), check)
    index = 0
    if regions and regions[0].shift:
        out += _row.pack(0, 0, regions[0].begin + regions[0].shift)
        place = regions[0].begin + regions[0].shift
    while index < len(regions):
        region = regions[index]
        added, copied = b"", b""
        if region.shift is not None:
            added = difference(new[region.begin : region.end], old, region.begin + region.shift)
            place = region.end + region.shift
            index += 1
        if index < len(regions) and regions[index].shift is None:
            copied = new[regions[index].begin : regions[index].end]
            index += 1
        move = 0
        if index < len(regions):
            move = regions[index].begin + (regions[index].shift or 0) - place
        out += _row.pack(len(added), len(copied), move if move >= 0 else -move | _MOVES_BACK)
        out += added
        out += copied
    return bytes(out)


def _joined(regions: Iterable[_Region], check: Check) -> list[_Region]:
    """The same, where no two that touch have the same shift."""
    found: list[_Region] = []
    for region in regions:
        check()
        if found and found[-1].shift == region.shift:
            found[-1].end = region.end
        else:
            found.append(region)
    return found


def _regions(old: bytes, new: bytes, segments: Sequence[Segment]) -> Iterator[_Region]:
    """All of the new file."""
    place, before = 0, None
    for each in segments:
        shift = each.source - each.begin
        yield from _between(old, new, place, each.begin, (before, shift))
        yield _Region(each.begin, each.end, shift)
        place, before = each.end, shift
    yield from _between(old, new, place, len(new), (before,))


def _between(old: bytes, new: bytes, begin: int, end: int, shifts: Sequence[int | None]) -> Iterator[_Region]:
    """Blocks as they are in the old file by one of the shifts, if they are at all."""
    for first in range(begin, end, _BLOCK):
        last = min(end, first + _BLOCK)
        best: int | None = None
        most = _LEAST_SAME * (last - first)
        for shift in dict.fromkeys(shifts):
            if shift is None or first + shift < 0 or last + shift > len(old):
                continue
            same = difference(new[first:last], old, first + shift).count(0)
            if same > most:
                best, most = shift, same
        yield _Region(first, last, best)


def difference(new: bytes, old: bytes, place: int) -> bytes:
    """Each byte of `new` minus that of `old`, from a place on, modulo 256."""
    return b"".join(
        _subtract(new[begin : begin + _AT_ONCE], old[place + begin : place + begin + _AT_ONCE][: len(new) - begin])
        for begin in range(0, len(new), _AT_ONCE)
    )


def _subtract(new: bytes, old: bytes) -> bytes:
    """As one large number each: the highest bit of each byte apart, so that none borrows of the next."""
    size = len(new)
    if new == old:
        return bytes(size)
    high = int.from_bytes(b"\x80" * size)
    x, y = int.from_bytes(new), int.from_bytes(old)
    return (((x | high) - (y & ~high)) ^ ((x ^ y ^ high) & high)).to_bytes(size)
