"""Differences between two commits as systems: sizes, systemd units, users and groups, programs with privileges, changelogs,
security advisories.

Packages and paths are compared by `compose.diff`.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from compose import metadata
from compose.diff import (
    Attributes,
    CommitDiff,
    PackageChange,
    PathChange,
    changed_packages,
    diff_commits,
    packages_of,
)
from compose.events import Reporter
from compose.installed import installed_packages
from compose.ostree.repo import Repo
from compose.passwd import entries, parse_id
from compose.rpm.capabilities import capability_text
from compose.rpm.changelog import Changelog, changelogs
from compose.rpm.database import InstalledPackage
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Advisory, advisories_without

# systemd.unit(5)
_UNIT_TYPES = (
    *(".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount"),
    *(".slice", ".swap", ".device", ".scope"),
)
_PULLS = (".wants", ".requires", ".upholds")
_MASK = "/dev/null"


class UnitEvent(StrEnum):
    """What happened to a unit. enabled, disabled, masked: as systemctl is-enabled reports at first boot."""

    ADDED = "added"
    REMOVED = "removed"
    ENABLED = "enabled"
    DISABLED = "disabled"
    MASKED = "masked"
    UNMASKED = "unmasked"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class UnitChange:
    """A unit that differs. manager: "system" or "user". unit: "sshd.service"."""

    manager: str
    unit: str
    event: UnitEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An entry of passwd or group. gid, home, shell: of a user. members: of a group, sorted."""

    id: int
    gid: int | None = None
    home: str = ""
    shell: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDiff:
    """A user or group that differs. kind: "user" or "group". before: None for a new one. after: None for a removed one."""

    kind: str
    name: str
    before: Account | None
    after: Account | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivilegeChange:
    """A file whose privileges differ: those it runs with whoever starts it. path: absolute. before, after: such as
    "setuid to 0" and "cap_net_raw=ep", "" for none, or no such file."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSize:
    """Size of a changed package's files. evr: of the new build, or of the removed one. before, after: bytes, None where the
    commit does not have the package."""

    name: str
    arch: str
    evr: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemDiff:
    """The differences between two commits. installed: bytes of all packages in each, None without an rpm database. files: bytes
    by which the tree's files grew. advisories_added, advisories_gone: None if neither commit records advisories."""

    commits: CommitDiff
    installed: tuple[int | None, int | None]
    files: int
    sizes: tuple[PackageSize, ...]
    units: tuple[UnitChange, ...]
    accounts: tuple[AccountDiff, ...]
    privileges: tuple[PrivilegeChange, ...]
    changelogs: tuple[Changelog, ...]
    advisories_added: tuple[Advisory, ...] | None
    advisories_gone: tuple[Advisory, ...] | None


def diff_systems(repo: Repo, before: str, after: str, reporter: Reporter) -> SystemDiff:
    """Compare two commits, given by checksum. Packages of a commit without a package list come from its rpm database.

    Raises RepositoryError if an object is missing or damaged, StorageError.
    """
    commits = diff_commits(repo, before, after)
    sides = (before, after)
    databases = [installed_packages(repo, side, reporter) if before != after else None for side in sides]
    if commits.packages is None:
        lists = (_listed(repo, side, found) for side, found in zip(sides, databases, strict=True))
        commits = replace(commits, packages=changed_packages(*lists))
    old, new = ({each.nevra: each for each in packages or ()} for packages in databases)
    units = [{manager: units_of(repo, side, manager) for manager in ("system", "user")} for side in sides]
    accounts = [{kind: _accounts(repo, side, kind) for kind in ("user", "group")} for side in sides]
    advisories = [
        metadata.advisories_of(repo.read_commit(side, (metadata.ADVISORIES,)), repo.read_detached(side))
        for side in sides
    ]
    known = advisories[0] is not None or advisories[1] is not None
    return SystemDiff(
        commits=commits,
        installed=(_total(databases[0]), _total(databases[1])),
        files=sum(
            (each.after.size if each.after else 0) - (each.before.size if each.before else 0) for each in commits.paths
        ),
        sizes=_sizes(commits.packages or (), old, new),
        units=_unit_changes(units[0], units[1]),
        accounts=_account_changes(accounts[0], accounts[1]),
        privileges=privilege_changes(commits.paths),
        changelogs=changelogs(
            (was, now) for _, was, now in _installed(commits.packages or (), old, new) if was and now
        ),
        advisories_added=advisories_without(advisories[1], advisories[0]) if known else None,
        advisories_gone=advisories_without(advisories[0], advisories[1]) if known else None,
    )


def privilege_changes(paths: Iterable[PathChange]) -> tuple[PrivilegeChange, ...]:
    """The files among changed paths whose privileges differ, in the same order."""
    found = (
        PrivilegeChange(path=f"/{each.path}", before=_privileges(each.before), after=_privileges(each.after))
        for each in paths
    )
    return tuple(each for each in found if each.before != each.after)


def _privileges(found: Attributes | None) -> str:
    if found is None or found.kind != "file":
        return ""
    names = [f"setuid to {found.uid}"] if found.mode & stat.S_ISUID else []
    names += [f"setgid to {found.gid}"] if found.mode & stat.S_ISGID else []
    names += [capability_text(bytes.fromhex(found.capability))] if found.capability else []
    return ", ".join(names)


def _listed(repo: Repo, commit: str, database: Sequence[InstalledPackage] | None) -> list[Nevra] | None:
    listed = packages_of(repo.read_commit(commit, (metadata.PKGLIST,)))
    return [each.nevra for each in database] if listed is None and database is not None else listed


def _total(packages: Sequence[InstalledPackage] | None) -> int | None:
    return None if packages is None else sum(each.size for each in packages)


def _sizes(
    changes: Iterable[PackageChange], old: Mapping[Nevra, InstalledPackage], new: Mapping[Nevra, InstalledPackage]
) -> tuple[PackageSize, ...]:
    found = []
    for each, was, now in _installed(changes, old, new):
        nevra = each.after or each.before
        if nevra is not None and (was or now):
            found.append(
                PackageSize(
                    name=nevra.name,
                    arch=nevra.arch,
                    evr=nevra.evr,
                    before=was.size if was else None,
                    after=now.size if now else None,
                )
            )
    return tuple(found)


def _installed(
    changes: Iterable[PackageChange], old: Mapping[Nevra, InstalledPackage], new: Mapping[Nevra, InstalledPackage]
) -> Iterator[tuple[PackageChange, InstalledPackage | None, InstalledPackage | None]]:
    """Each change with the packages before and after it, as the rpm databases have them."""
    for each in changes:
        yield each, old.get(each.before) if each.before else None, new.get(each.after) if each.after else None


@dataclass(slots=True)
class Units:
    """Names of one manager's units that exist, are enabled, are masked."""

    present: set[str]
    enabled: set[str]
    masked: set[str]


def units_of(repo: Repo, commit: str, manager: str) -> Units:
    """Find the units in a commit. manager: "system" or "user". Raises RepositoryError."""
    found = Units(set(), set(), set())
    for place in ("usr/lib", "usr/etc"):
        top = f"{place}/systemd/{manager}"
        tree = repo.read_directory(commit, top)
        if tree is None:
            continue
        for name, checksum in tree.files:
            if not name.endswith(_UNIT_TYPES):
                continue
            with repo.open_content(checksum) as content:
                target = content.info.target
            if target == _MASK:
                found.masked.add(name)
                continue
            found.present.add(name)
            # a link in /etc with another name is an alias, created by enabling the unit
            if place == "usr/etc" and target is not None and posixpath.basename(target) != name:
                found.enabled.add(posixpath.basename(target))
        for name, _, _ in tree.directories:
            # links outside of /etc belong to packages, whose units are static, not enabled
            if place == "usr/etc" and name.endswith(_PULLS):
                pulled = repo.read_directory(commit, f"{top}/{name}")
                found.enabled |= {unit for unit, _ in pulled.files} if pulled else set()
    return found


def _unit_changes(before: Mapping[str, Units], after: Mapping[str, Units]) -> tuple[UnitChange, ...]:
    found = []
    for manager, new in after.items():
        old = before[manager]
        events = {
            UnitEvent.ADDED: new.present - old.present,
            UnitEvent.REMOVED: old.present - new.present,
            UnitEvent.ENABLED: new.enabled - old.enabled,
            UnitEvent.DISABLED: old.enabled - new.enabled,
            UnitEvent.MASKED: new.masked - old.masked,
            UnitEvent.UNMASKED: old.masked - new.masked,
        }
        found += [
            UnitChange(manager=manager, unit=unit, event=event) for event, names in events.items() for unit in names
        ]
    return tuple(sorted(found))


def _accounts(repo: Repo, commit: str, kind: str) -> dict[str, Account]:
    name = "passwd" if kind == "user" else "group"
    found: dict[str, Account] = {}
    for place in ("etc", "lib"):
        for fields in entries((repo.read_file(commit, f"usr/{place}/{name}") or b"").decode(errors="replace")):
            account = _account(fields, kind)
            # the first of equal names counts, as for getpwnam(3)
            if account is not None:
                found.setdefault(fields[0], account)
    return found


def _account(fields: Sequence[str], kind: str) -> Account | None:
    """passwd(5), group(5)."""
    if len(fields) < (7 if kind == "user" else 4) or (number := parse_id(fields[2])) is None:
        return None
    if kind == "group":
        return Account(id=number, members=tuple(sorted(filter(None, fields[3].split(",")))))
    return Account(id=number, gid=parse_id(fields[3]), home=fields[5], shell=fields[6])


def _account_changes(
    before: Mapping[str, Mapping[str, Account]], after: Mapping[str, Mapping[str, Account]]
) -> tuple[AccountDiff, ...]:
    return tuple(
        AccountDiff(kind=kind, name=name, before=before[kind].get(name), after=after[kind].get(name))
        for kind in after
        for name in sorted(before[kind].keys() | after[kind].keys())
        if before[kind].get(name) != after[kind].get(name)
    )
