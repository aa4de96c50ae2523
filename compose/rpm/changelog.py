"""Changelog entries that were added between two builds of a package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compose.rpm.database import ChangelogEntry, InstalledPackage
from compose.rpm.nevra import Nevra


@dataclass(frozen=True, slots=True, kw_only=True)
class Changelog:
    """New entries of one source package. packages: built from it, all with these entries. entries: newest first."""

    packages: tuple[Nevra, ...]
    entries: tuple[ChangelogEntry, ...]


def changelogs(builds: Iterable[tuple[InstalledPackage, InstalledPackage]]) -> tuple[Changelog, ...]:
    """Collect new entries, grouping packages of a source that have the same. builds: (earlier, later) per package."""
    found: dict[tuple[str, tuple[ChangelogEntry, ...]], list[Nevra]] = {}
    for before, after in builds:
        if entries := new_entries(before.changelog, after.changelog):
            found.setdefault((after.source_rpm, entries), []).append(after.nevra)
    rows = [Changelog(packages=tuple(sorted(packages)), entries=entries) for (_, entries), packages in found.items()]
    return tuple(sorted(rows, key=lambda row: row.packages))


def new_entries(before: Sequence[ChangelogEntry], after: Sequence[ChangelogEntry]) -> tuple[ChangelogEntry, ...]:
    """Return the later build's entries up to the first that the earlier one has too: packagers truncate old ones."""
    known = set(before)
    found = []
    for entry in after:
        if entry in known:
            break
        found.append(entry)
    return tuple(found)
