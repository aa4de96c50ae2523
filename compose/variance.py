"""Guess from their contents why two builds of a file differ: times, order, random values.

The guess only tells users where to look; nothing depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

_MARK = b"\0"
_DAY = rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = rb"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIMES = re.compile(
    rb"\b\d{4}-\d\d-\d\d\b|\b\d\d?:\d\d(:\d\d)?(\.\d+)?\b|\b20\d{6}(T?\d{6})?Z?\b|\b(1[4-9]|2[01])\d{8}(\.\d+)?\b|"
    + _DAY + rb",?\s+|\b\d?\d " + _MONTH + rb"( 20\d\d)?\b|" + _MONTH + rb"\s+\d?\d\b(,? 20\d\d)?|\b20[1-4]\d\b"
)  # fmt: skip
# identifiers, keys, hashes, and names by mktemp
_RANDOM = re.compile(
    rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{12,}|[A-Za-z0-9+/_-]{20,}=*|tmp[.]?\w{6,10}"
)
_NUMBERS = re.compile(rb"\d+")
# Plausible times, seconds since 1970: 2014 to 2039, and for two composes of a commit less than 5 years apart.
_EARLIEST, _LATEST, _APART = 1_400_000_000, 2_200_000_000, 5 * 366 * 86_400


class Kind(StrEnum):
    """A kind of difference; its value follows the path in a message."""

    TIMES = "differs in times only"
    ORDER = "has the same in another order"
    RANDOM = "differs in what looks random"
    NUMBERS = "differs in numbers only"
    OTHER = "differs"


def kind_of(before: bytes, after: bytes) -> Kind:
    """Classify the difference between two contents, which must differ."""
    if _MARK in before or _MARK in after:
        return _of_binary(before, after)
    if sorted(before.splitlines()) == sorted(after.splitlines()):
        return Kind.ORDER
    for pattern, kind in ((_TIMES, Kind.TIMES), (_RANDOM, Kind.RANDOM), (_NUMBERS, Kind.NUMBERS)):
        if pattern.sub(_MARK, before) == pattern.sub(_MARK, after):
            return kind
    return Kind.OTHER


def _of_binary(before: bytes, after: bytes) -> Kind:
    if len(before) != len(after):
        return Kind.OTHER
    if all(_is_time(before, after, *run) for run in _runs(before, after)):
        return Kind.TIMES
    return Kind.ORDER if sorted(before) == sorted(after) else Kind.RANDOM


def _runs(before: bytes, after: bytes) -> Iterator[tuple[int, int]]:
    """Yield the (first, last) position of each run of differing bytes; runs less than 4 bytes apart are one."""
    first = last = -1
    for position, (one, other) in enumerate(zip(before, after, strict=True)):
        if one == other:
            continue
        if first >= 0 and position - last >= 4:
            yield first, last
            first = position
        elif first < 0:
            first = position
        last = position
    if first >= 0:
        yield first, last


def _is_time(before: bytes, after: bytes, first: int, last: int) -> bool:
    """Do both have a plausible time in the same 4 bytes that contain these positions?"""
    for start in range(max(0, last - 3), first + 1):
        for order in ("little", "big"):
            one, other = (int.from_bytes(data[start : start + 4], order) for data in (before, after))
            if _EARLIEST < one < _LATEST and _EARLIEST < other < _LATEST and abs(one - other) < _APART:
                return True
    return False
