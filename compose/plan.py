"""Plans: what a compose would change, found by comparison before anything is built.

"Before" is a commit: its package list, rpm database, accounts and recorded inputs. "After" is a resolution, with the manifests
of those packages that are in the cache.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from compose.assemble.accounts import declared_ids
from compose.assemble.ids import SYSUSERS, IdLock
from compose.assemble.scripts import RUN
from compose.inputhash import InputChange, InputKind
from compose.rpm.changelog import Changelog
from compose.rpm.compare import package_changes
from compose.rpm.database import InstalledPackage
from compose.rpm.manifest import PackageManifest, Script, Scriptlet, Trigger
from compose.rpm.nevra import Nevra
from compose.solve.resolution import Advisory, ResolvedPackage
from compose.tree import BlobRef


class PackageEvent(StrEnum):
    """What happens to a package."""

    ADDED = "added"
    REMOVED = "removed"
    UPGRADED = "upgraded"
    DOWNGRADED = "downgraded"
    REBUILT = "rebuilt"
    """A different RPM with the same NEVRA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPackage:
    """A package that would change. before: None for an added one. after: None for a removed one. repo: of after, "" if removed.
    size_before, size: of its files, bytes, 0 on the side that lacks it; None if unknown. download: bytes not in the cache
    yet."""

    change: PackageEvent
    before: Nevra | None
    after: Nevra | None
    repo: str
    size_before: int | None
    size: int
    download: int

    @property
    def nevra(self) -> Nevra:
        """Of the new build, or of the removed one."""
        found = self.after or self.before
        assert found is not None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptChange:
    """A scriptlet or trigger that is new, changed or removed. phase: "%post", "%triggerin -- bash". before: None if new. after:
    None if removed. skipped: why it does not run in a compose, "" if it runs."""

    package: Nevra
    phase: str
    before: Script | None
    after: Script | None
    skipped: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """A user or group whose id would change. kind: "user" or "group". before: id in the commit, None for a new one. after: None
    if the id is chosen by the compose. by: the package that declares it, None if only the lock differs. locked: is it in
    id-lock? None without a lock."""

    kind: str
    name: str
    before: int | None
    after: int | None
    by: Nevra | None
    locked: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskNeed:
    """Space needed on a filesystem. path: on that filesystem. needed: an upper bound, bytes. free: bytes."""

    path: str
    needed: int
    free: int

    @property
    def enough(self) -> bool:
        return self.needed <= self.free


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """An input that changed. place: in the treefile, "" if it has none."""

    change: InputChange
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a compose would do.

    previous: checksum of the previous commit, None if there is none. changed: would it make a commit? total: number of
    packages. causes: None if unknown, for the reason in why_not_known. size_before, size: of all packages' files, bytes;
    size_before: None if unknown. download: bytes. unread: packages whose scriptlets, accounts and changelogs are unknown until
    they are downloaded. advisories: those that the previous commit lacks, None if unknown. changelogs: new entries of the
    packages that are not unread.
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
    """Compare packages. installed: of the commit. rebuilt: NEVRAs whose RPM changed. missing: bytes to download, by NEVRA."""
    resolved = {each.nevra: each for each in after}
    rows = [
        (PackageEvent(change.name.lower()), old, new)
        for change, old, new in package_changes(before, [each.nevra for each in after])
    ]
    rows += [(PackageEvent.REBUILT, each, each) for each in sorted(resolved) if str(each) in rebuilt]
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
    """Return the NEVRAs whose RPM changed."""
    return frozenset(
        each.name for each in causes if each.kind is InputKind.PACKAGE and None not in (each.before, each.after)
    )


def script_changes(
    before: InstalledPackage | None, after: PackageManifest, ignored: Mapping[tuple[str, str], str]
) -> tuple[ScriptChange, ...]:
    """Compare the scriptlets and triggers of a package that could run in a compose.

    before: None if the package is new. ignored: reasons why some do not run, by package name and kind.
    """
    old = _programs(before.scriptlets, before.triggers) if before else {}
    new = _programs(after.scriptlets, after.triggers)
    return tuple(
        ScriptChange(
            package=after.nevra,
            phase=" -- ".join(filter(None, (f"%{kind}", conditions))),
            before=old.get((kind, conditions)),
            after=new.get((kind, conditions)),
            skipped=ignored.get((after.nevra.name, kind), ""),
        )
        for kind, conditions in sorted(old.keys() | new.keys())
        if old.get((kind, conditions)) != new.get((kind, conditions))
    )


def _programs(scriptlets: Iterable[Scriptlet], triggers: Iterable[Trigger]) -> dict[tuple[str, str], Script]:
    """Scripts by kind and, for triggers, their conditions."""
    found = {(str(each.kind), ""): each.script for each in scriptlets if each.kind in RUN}
    for each in triggers:
        if each.kind in RUN:
            conditions = ", ".join(f"{row.name} {row.version}".rstrip() for row in each.conditions)
            found[str(each.kind), conditions] = each.script
    return found


class Contents(Protocol):
    """The part of a blob store that account_changes() needs."""

    def read(self, ref: BlobRef) -> bytes:
        """As BlobStore.read()."""


def account_changes(
    manifests: Iterable[PackageManifest],
    store: Contents,
    *,
    users: Mapping[str, int],
    groups: Mapping[str, int],
    lock: IdLock | None,
) -> tuple[AccountChange, ...]:
    """Find users and groups whose id is new or changes. Those created by scriptlets are not included.

    manifests: of new and changed packages. users, groups: ids in the commit. Raises as BlobStore.read().
    """
    present = {"user": users, "group": groups}
    locked = {"user": lock.users, "group": lock.groups} if lock else {"user": {}, "group": {}}
    found: dict[tuple[str, str], AccountChange] = {}

    def compare(kind: str, name: str, after: int | None, by: Nevra | None) -> None:
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
                compare(kind, name, None, None)
    for manifest in manifests:
        for file in manifest.files:
            if file.path.startswith(f"{SYSUSERS}/") and file.blob is not None:
                declared = declared_ids((store.read(file.blob).decode(errors="replace"),))
                for kind, ids in zip(("user", "group"), declared, strict=True):
                    for name, number in ids.items():
                        # root always exists
                        if name != "root":
                            compare(kind, name, number, manifest.nevra)
    return tuple(found[key] for key in sorted(found, key=lambda key: (key[0] != "user", key[1])))
