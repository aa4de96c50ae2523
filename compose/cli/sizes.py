"""Differences of sizes, counts, and sizes that users write."""

from __future__ import annotations

import re

from compose.errors import UsageError
from compose.sizes import size

_SIZE = re.compile(r"(\d{1,18})([KMGT]?)(i?)B?")


def delta(count: int) -> str:
    """Format a difference of sizes: "+12.3 MB"."""
    return f"+{size(count)}" if count > 0 else size(count) if count else "0"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Format a count: "1 file", "2 files". plural: of a noun that takes more than an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def parse_size(flag: str, text: str) -> int:
    """Parse 500M, 20G or 20GiB into bytes. Raises UsageError naming the flag."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"{flag}={text}: expected a number of bytes, or one with K, M, G or T")
    number, unit, binary = int(match[1]), match[2], match[3]
    factor = 1024 if binary else 1000
    for _ in range(" KMGT".index(unit or " ")):
        number *= factor
    return number
