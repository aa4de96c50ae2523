"""What a compose would change, said before anything is built: values, and how they are found by comparing.

Before is a commit: its package list, its rpm database, its accounts, the record of what decided it. After is a solution, with
the manifests of those packages that are in the cache already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from compose.assemble.accounts import declared_ids
from compose.assemble.ids import SYSUSERS, IdLock
from compose.assemble.scripts import RUN
from compose.inputdiff import InputChange
from compose.inputhash import InputKind
from compose.rpm.changelog import Changelog
from compose.rpm.compare import Change, package_changes
from compose.rpm.database import InstalledPackage
from compose.rpm.manifest import PackageManifest, Script, Scriptlet, Trigger
from compose.rpm.nevra import Nevra
from compose.solve.advisories import Advisory
from compose.solve.resolution import ResolvedPackage
from compose.tree import BlobRef


class PackageChange(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    UPGRADED = "upgraded"
    DOWNGRADED = "downgraded"
    REBUILT = "rebuilt"
    """Another RPM under the same name, version and release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPackage:
    """repo: of after, "" for what is removed. size_before, size: of its files, bytes; None when not known. download: bytes
    that are not in the cache yet."""

    change: PackageChange
    before: Nevra | None
    after: Nevra | None
    repo: str
    size_before: int | None
    size: int
    download: int

    @property
    def nevra(self) -> Nevra:
        found = self.after or self.before
        assert found is not None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptChange:
    """A program of a package that is new, changed or gone. phase: "%post", "%triggerin -- bash". skipped: why it does not
    run in a compose, "" when it does."""

    package: Nevra
    phase: str
    before: Script | None
    after: Script | None
    skipped: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """kind: "user" or "group". before: its id in the commit, None for a new one. after: None when it is chosen while composing.
    by: the package that declares it, None when only the lock differs. locked: does id-lock have it? None without a lock."""

    kind: str
    name: str
    before: int | None
    after: int | None
    by: Nevra | None
    locked: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskNeed:
    """path: a place on the filesystem. needed: at most, bytes. free: bytes."""

    path: str
    needed: int
    free: int

    @property
    def enough(self) -> bool:
        return self.needed <= self.free


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """An input that changed. place: where the treefile says it, "" for what has none."""

    change: InputChange
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a compose would do.

    changed: would it make a commit? previous: checksum of the commit that it follows, None for the first one. causes: None when
    they are not known, and why_not_known says why. total: packages of the compose. size_before: None when not known; size:
    bytes. unread: packages whose scriptlets, accounts and changelogs are not known before they are downloaded. advisories:
    those that the previous commit does not have; None when not known. changelogs: between the two builds of packages that are
    read.
    """

    ref: str | None
    previous: str | None
    previous_version: str | None
    changed: bool
    total: int
    causes: tuple[Cause, ...] | None
    why_not_known: str
    packages: tuple[PlannedPackage, ...]
    size_before: int | None
    size: int
    download: int
    disk: tuple[DiskNeed, ...]
    scripts: tuple[ScriptChange, ...]
    accounts: tuple[AccountChange, ...]
    unread: tuple[Nevra, ...]
    advisories: tuple[Advisory, ...] | None
    changelogs: tuple[Changelog, ...]


def planned_packages(
    before: Sequence[Nevra],
    after: Sequence[ResolvedPackage],
    *,
    installed: Mapping[Nevra, InstalledPackage],
    rebuilt: Collection[str],
    missing: Mapping[Nevra, int],
) -> tuple[PlannedPackage, ...]:
    """installed: of the commit. rebuilt: NEVRAs whose RPM is another one. missing: bytes that are to be downloaded."""
    resolved = {each.nevra: each for each in after}
    rows = [
        (PackageChange(Change(change).name.lower()), old, new)
        for change, old, new in package_changes(before, [each.nevra for each in after])
    ]
    rows += [(PackageChange.REBUILT, each, each) for each in sorted(resolved) if str(each) in rebuilt]
    found = []
    for change, old, new in rows:
        was = installed.get(old) if old is not None else None
        package = resolved.get(new) if new is not None else None
        found.append(
            PlannedPackage(
                change=change,
                before=old,
                after=new,
                repo=package.repo if package else "",
                size_before=was.size if was else None if old is not None else 0,
                size=package.install_size if package else 0,
                download=missing.get(new, 0) if new is not None else 0,
            )
        )
    return tuple(found)


def rebuilt_packages(causes: Iterable[InputChange]) -> frozenset[str]:
    """NEVRAs that stay while their RPM does not."""
    return frozenset(
        each.name for each in causes if each.kind is InputKind.PACKAGE and None not in (each.before, each.after)
    )


def script_changes(
    before: InstalledPackage | None, after: PackageManifest, ignored: Mapping[tuple[str, str], str]
) -> tuple[ScriptChange, ...]:
    """Of one package, those that could run in a compose. ignored: (package, kind) -> why it does not run."""
    old = _programs(before.scriptlets, before.triggers) if before else {}
    new = _programs(after.scriptlets, after.triggers)
    return tuple(
        ScriptChange(
            package=after.nevra,
            phase=" -- ".join(filter(None, (f"%{kind}", what))),
            before=old.get((kind, what)),
            after=new.get((kind, what)),
            skipped=ignored.get((after.nevra.name, kind), ""),
        )
        for kind, what in sorted(old.keys() | new.keys())
        if old.get((kind, what)) != new.get((kind, what))
    )


def _programs(scriptlets: Iterable[Scriptlet], triggers: Iterable[Trigger]) -> dict[tuple[str, str], Script]:
    found = {(str(each.kind), ""): each.script for each in scriptlets if each.kind in RUN}
    for each in triggers:
        if each.kind in RUN:
            what = ", ".join(f"{row.name} {row.version}".rstrip() for row in each.conditions)
            found[str(each.kind), what] = each.script
    return found


class Contents(Protocol):
    """What is needed of a blob store."""

    def read(self, ref: BlobRef) -> bytes: ...


def account_changes(
    manifests: Iterable[PackageManifest],
    store: Contents,
    *,
    users: Mapping[str, int],
    groups: Mapping[str, int],
    lock: IdLock | None,
) -> tuple[AccountChange, ...]:
    """Users and groups that get an id, or another one. manifests: of packages that are new or changed. users, groups: of the
    commit. What scriptlets make is not among it."""
    present = {"user": users, "group": groups}
    locked = {"user": lock.users, "group": lock.groups} if lock else {"user": {}, "group": {}}
    found: dict[tuple[str, str], AccountChange] = {}

    def tell(kind: str, name: str, after: int | None, by: Nevra | None) -> None:
        before = present[kind].get(name)
        after = locked[kind].get(name, after)
        if before is None or after not in (None, before):
            found[kind, name] = AccountChange(
                kind=kind,
                name=name,
                before=before,
                after=after,
                by=by,
                locked=None if lock is None else name in locked[kind],
            )

    for kind, names in locked.items():
        for name in names:
            if name in present[kind]:
                tell(kind, name, None, None)
    for manifest in manifests:
        for file in manifest.files:
            if file.path.startswith(f"{SYSUSERS}/") and file.blob is not None:
                declared = declared_ids(store.read(file.blob).decode(errors="replace"))
                for kind, ids in zip(("user", "group"), declared, strict=True):
                    for name, number in ids.items():
                        # root is there from the start
                        if name != "root":
                            tell(kind, name, number, manifest.nevra)
    return tuple(found[key] for key in sorted(found, key=lambda key: (key[0] != "user", key[1])))
