"""What two files have in common: runs of the same bytes, wherever they are.

Python is too slow to look at single bytes. Common beginnings and ends are found by comparing whole slices. What is between is
cut into content-defined chunks: where one ends depends only on the bytes there, hence it is the same in both files whatever was
inserted or removed before. The old file's chunks are looked up by their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from compose.ostree.delta.layout import Segment
from compose.ostree.delta.threads import Check, never

# an eighth of all bytes, neither 0 nor 255, of which some files are full
_RARE = bytes(each for each in range(256) if each % 8 == 2)
_FINE = re.compile(b"[" + re.escape(_RARE) + b"]{2}", re.DOTALL)
_COARSE = re.compile(b"[" + re.escape(_RARE) + b"]{3}", re.DOTALL)
_LARGE = 8 << 20
"""Bytes of a file from which on chunks have 512 bytes on average, and not 64."""
_LEAST = 32
"""Bytes of the shortest run that is worth the operations that copy it."""
_MOST_COMPARED = 1 << 20


def common_segments(old: bytes, new: bytes, check: Check = never) -> tuple[Segment, ...]:
    """Runs of `new` that are in `old` too, by their places in `new`, where they do not overlap. Raises Cancelled."""
    head = _same(old, 0, new, 0, min(len(old), len(new)))
    if head == len(new):
        return (Segment(0, 0, head),) if head else ()
    tail = _same_before(old, len(old), new, len(new), min(len(old), len(new)) - head)
    found = [Segment(0, 0, head)] if head >= _LEAST else []
    found += _inner(old, new, found[-1].end if found else 0, len(new) - (tail if tail >= _LEAST else 0), check)
    if tail >= _LEAST:
        found.append(Segment(len(new) - tail, len(old) - tail, tail))
    return tuple(found)


def _inner(old: bytes, new: bytes, begin: int, end: int, check: Check) -> Iterator[Segment]:
    """Between two places of `new`; all of `old`."""
    if end - begin < _LEAST or len(old) < _LEAST:
        return
    bounds = _COARSE if max(len(old), len(new)) >= _LARGE else _FINE
    places: dict[bytes, int] = {}
    for first, last in _chunks(old, 0, len(old), bounds, check):
        places.setdefault(old[first:last], first)
    done = begin
    for first, last in _chunks(new, begin, end, bounds, check):
        if first < done:
            continue
        source = places.get(new[first:last])
        if source is None:
            continue
        back = _same_before(old, source, new, first, min(source, first - done))
        size = back + _same(old, source, new, first, min(len(old) - source, end - first))
        if size >= _LEAST:
            yield Segment(first - back, source - back, size)
            done = first - back + size


def _chunks(data: bytes, begin: int, end: int, bounds: re.Pattern[bytes], check: Check) -> Iterator[tuple[int, int]]:
    first = begin
    for match in bounds.finditer(data, begin, end):
        last = match.end()
        if last - first >= _LEAST:
            check()
            yield first, last
            first = last
    if end - first >= _LEAST:
        yield first, end


def _same(one: bytes, i: int, other: bytes, j: int, most: int) -> int:
    """How many bytes from two places on are the same, `most` at most."""
    return _longest(lambda begin, end: one[i + begin : i + end] == other[j + begin : j + end], most)


def _same_before(one: bytes, i: int, other: bytes, j: int, most: int) -> int:
    """How many bytes before two places are the same, `most` at most."""
    return _longest(lambda begin, end: one[i - end : i - begin] == other[j - end : j - begin], most)


def _longest(same: Callable[[int, int], bool], most: int) -> int:
    """The largest number of bytes that are the same. same: are those from one number of bytes to another?"""
    count, step = 0, _LEAST
    while count < most:
        step = min(step, most - count)
        if same(count, count + step):
            count += step
            step = min(step * 2, _MOST_COMPARED)
        elif step == 1:
            break
        else:
            step //= 2
    return count
