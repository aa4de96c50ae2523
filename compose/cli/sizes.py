"""Bytes for people: powers of ten, as disks and downloads are counted."""

from __future__ import annotations

_UNITS = ((10_000_000_000, 1e9, "GB"), (100_000, 1e6, "MB"), (0, 1e3, "kB"))


def size(count: int) -> str:
    """ "12.3 MB"."""
    divisor, unit = next(row[1:] for row in _UNITS if abs(count) >= row[0])
    return f"{count / divisor:.1f} {unit}"


def delta(count: int) -> str:
    """ "+12.3 MB"."""
    return f"+{size(count)}" if count > 0 else size(count) if count else "0"
