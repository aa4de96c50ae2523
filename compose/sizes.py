"""Human-readable sizes, in powers of ten as for disks and downloads."""

from __future__ import annotations

_UNITS = ((10_000_000_000, 1e9, "GB"), (100_000, 1e6, "MB"), (1000, 1e3, "kB"))


def size(count: int) -> str:
    """Format a number of bytes: "12.3 MB", "512 B"."""
    for least, divisor, unit in _UNITS:
        if abs(count) >= least:
            return f"{count / divisor:.1f} {unit}"
    return f"{count} B"
