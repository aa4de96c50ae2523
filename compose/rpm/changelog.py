"""What packagers wrote between two builds of their packages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compose.rpm.database import ChangelogEntry, InstalledPackage
from compose.rpm.nevra import Nevra


@dataclass(frozen=True, slots=True, kw_only=True)
class Changelog:
    """packages: of one source, with the same entries. entries: newest first."""

    packages: tuple[Nevra, ...]
    entries: tuple[ChangelogEntry, ...]


def changelogs(builds: Iterable[tuple[InstalledPackage, InstalledPackage]]) -> tuple[Changelog, ...]:
    """builds: of each package the earlier and the later one; packages of a source that tell the same are told together."""
    found: dict[tuple[str, tuple[ChangelogEntry, ...]], list[Nevra]] = {}
    for before, after in builds:
        if entries := new_entries(before.changelog, after.changelog):
            found.setdefault((after.source_rpm, entries), []).append(after.nevra)
    rows = [Changelog(packages=tuple(sorted(packages)), entries=entries) for (_, entries), packages in found.items()]
    return tuple(sorted(rows, key=lambda row: row.packages))


def new_entries(before: Sequence[ChangelogEntry], after: Sequence[ChangelogEntry]) -> tuple[ChangelogEntry, ...]:
    """Those of the later build down to the first that the earlier one has too: packagers cut off what is old."""
    known = set(before)
    found = []
    for entry in after:
        if entry in known:
            break
        found.append(entry)
    return tuple(found)
