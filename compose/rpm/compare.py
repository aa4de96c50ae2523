"""Differences between two sets of packages."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import cmp_to_key
from itertools import zip_longest

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
    return compare_labels((str(one.epoch), one.version, one.release), (str(two.epoch), two.version, two.release))


def compare_labels(one: tuple[str, str, str], two: tuple[str, str, str]) -> int:
    """The same for (epoch, version, release), which may be any texts."""
    result: int = rpm.labelCompare(_accepted(one), _accepted(two))
    return result


def _accepted(label: tuple[str, str, str]) -> tuple[str, str, str]:
    """A label that compares alike and that librpm's bindings take: they refuse an empty version and text that is not UTF-8."""
    epoch, version, release = map(in_ascii, label)
    return epoch, version or ".", release


def in_ascii(version: str) -> str:
    """A version that librpm compares alike: to it, all characters but ASCII's are separators."""
    return version if version.isascii() else version.encode("ascii", "replace").decode()


def pairs(before: Iterable[Nevra], after: Iterable[Nevra]) -> list[tuple[Nevra | None, Nevra | None]]:
    """Return (old, new) for the builds that only one side has, sorted by name and arch, the newest first.

    Several builds of one name may be installed at once, such as kernels. The newest old build is paired with the newest new
    one, and so on; None takes the place of a missing build.
    """
    old, new = set(before), set(after)
    groups: dict[tuple[str, str], tuple[list[Nevra], list[Nevra]]] = {}
    for side, builds in enumerate((old - new, new - old)):
        for nevra in sorted(builds):
            groups.setdefault((nevra.name, nevra.arch), ([], []))[side].append(nevra)
    found: list[tuple[Nevra | None, Nevra | None]] = []
    for key in sorted(groups):
        olds, news = (sorted(builds, key=cmp_to_key(compare_evr), reverse=True) for builds in groups[key])
        found += zip_longest(olds, news)
    return found


def package_changes(before: Iterable[Nevra], after: Iterable[Nevra]) -> list[tuple[Change, Nevra | None, Nevra | None]]:
    """Return (change, old, new) of pairs() whose epoch, version or release differs, sorted by change, then name and arch."""
    found: list[tuple[Change, Nevra | None, Nevra | None]] = []
    for was, now in pairs(before, after):
        if was is None:
            found.append((Change.ADDED, None, now))
        elif now is None:
            found.append((Change.REMOVED, was, None))
        elif (order := compare_evr(was, now)) != 0:
            found.append((Change.UPGRADED if order < 0 else Change.DOWNGRADED, was, now))
    return sorted(found, key=lambda row: row[0])
