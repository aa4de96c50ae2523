"""Differences between two sets of packages."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import rpm

from compose.rpm.nevra import Nevra


class Change(IntEnum):
    """Values as in rpm-ostree's `pkgdiff`."""

    ADDED = 0
    REMOVED = 1
    UPGRADED = 2
    DOWNGRADED = 3


def compare_evr(one: Nevra, two: Nevra) -> int:
    """Compare epoch, version and release by librpm's rules: -1, 0 or 1."""
    result: int = rpm.labelCompare(
        (str(one.epoch), one.version, one.release), (str(two.epoch), two.version, two.release)
    )
    return result


def package_changes(before: Sequence[Nevra], after: Sequence[Nevra]) -> list[tuple[Change, Nevra | None, Nevra | None]]:
    """Return (change, old, new) per name and arch that changed, sorted by change, then name."""
    old = {(nevra.name, nevra.arch): nevra for nevra in before}
    new = {(nevra.name, nevra.arch): nevra for nevra in after}
    found: list[tuple[Change, Nevra | None, Nevra | None]] = []
    for key in sorted(old.keys() | new.keys()):
        was, now = old.get(key), new.get(key)
        if was is None:
            found.append((Change.ADDED, None, now))
        elif now is None:
            found.append((Change.REMOVED, was, None))
        elif (order := compare_evr(was, now)) != 0:
            found.append((Change.UPGRADED if order < 0 else Change.DOWNGRADED, was, now))
    return sorted(found, key=lambda row: row[0])
