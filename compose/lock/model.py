"""Locks as values, and their conversion from and to resolutions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from compose.rpm.nevra import Nevra
from compose.solve.request import SolveRequest
from compose.solve.resolution import COMMAND_LINE, Advisory, Resolution, ResolvedPackage, advisories_without


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """A pinned build. package: as resolved. key: fingerprint or id of the key that signed it, "" when its repository has
    gpgcheck=0."""

    package: ResolvedPackage
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchLock:
    """The lock for one base architecture.

    request: request_digest() of the solve, 64 hex digits. specs: the treefile's package specs, sorted. repos: (id, timestamp of
    its repodata), sorted by id. packages: sorted by NEVRA. advisories: that list these builds or the treefile's RPM files,
    sorted by id; None if unknown.
    """

    request: str
    specs: tuple[str, ...]
    repos: tuple[tuple[str, int], ...]
    packages: tuple[LockedPackage, ...]
    advisories: tuple[Advisory, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lockfile's content. arches: by base architecture."""

    arches: Mapping[str, ArchLock]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Change:
    """A package whose build differs between two locks; before or after is None when only the other lock has it."""

    name: str
    arch: str
    before: Nevra | None
    after: Nevra | None


def request_digest(request: SolveRequest) -> str:
    """Digest of everything that determines a solve besides the repositories' content."""
    document = {
        "packages": sorted(spec.text for spec in request.packages),
        "repo-packages": sorted(
            (row.repo, sorted(spec.text for spec in row.packages)) for row in request.repo_packages
        ),
        "exclude-packages": sorted(spec.text for spec in request.exclude_packages),
        "recommends": request.recommends,
        "rpm-files": sorted(file.sha256 for file in request.rpm_files),
        "repos": None if request.access.repos is None else sorted(request.access.repos),
        "releasever": request.access.releasever,
        "repovars": sorted(request.access.repovars),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def specs_of(request: SolveRequest) -> tuple[str, ...]:
    """All package specs that a treefile asks for, sorted."""
    rows = [*request.packages, *(spec for row in request.repo_packages for spec in row.packages)]
    return tuple(sorted({spec.text for spec in rows}))


def lock_of(request: SolveRequest, resolution: Resolution, keys: Mapping[Nevra, str]) -> ArchLock:
    """Lock a resolution. keys: signing keys by NEVRA. RPM files from outside of repositories are left out, as the treefile pins
    them."""
    return ArchLock(
        request=request_digest(request),
        specs=specs_of(request),
        repos=tuple((repo.id, repo.timestamp) for repo in resolution.repos),
        packages=tuple(
            LockedPackage(package=package, key=keys.get(package.nevra, ""))
            for package in resolution.packages
            if package.repo != COMMAND_LINE
        ),
        advisories=resolution.advisories,
    )


def resolution_of(lock: ArchLock, now: Resolution) -> Resolution:
    """The resolution that a lock records. now: provides the repositories' keys, from their current .repo files, and RPM files
    from outside of repositories."""
    timestamps = dict(lock.repos)
    repos = tuple(replace(repo, timestamp=timestamps[repo.id]) for repo in now.repos if repo.id in timestamps)
    packages = sorted((*(each.package for each in lock.packages), *now.packages), key=lambda package: package.nevra)
    return Resolution(
        packages=tuple(packages),
        repos=repos,
        advisories=lock.advisories,
        directories=now.directories,
        locked=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDiff:
    """How two locks of an architecture differ. packages: sorted by name. advisories_added, advisories_gone: sorted by id; empty
    if either lock does not record advisories."""

    packages: tuple[Change, ...]
    advisories_added: tuple[Advisory, ...] = ()
    advisories_gone: tuple[Advisory, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.packages or self.advisories_added or self.advisories_gone)


def compare_locks(before: ArchLock | None, after: ArchLock | None) -> LockDiff:
    """The differences between two locks. Several builds of one name are paired as by compare.pairs()."""
    packages = _changes(before, after)
    # those that were not looked up are not new
    if (before and before.advisories is None) or (after and after.advisories is None):
        return LockDiff(packages=packages)
    old, new = (lock.advisories if lock else None for lock in (before, after))
    return LockDiff(
        packages=packages,
        advisories_added=advisories_without(new, old),
        advisories_gone=advisories_without(old, new),
    )


def _changes(before: ArchLock | None, after: ArchLock | None) -> tuple[Change, ...]:
    # imported late, because a compose reads its lock without librpm
    from compose.rpm.compare import pairs

    def builds(lock: ArchLock | None) -> list[Nevra]:
        return [each.package.nevra for each in lock.packages] if lock else []

    found = []
    for old, new in pairs(builds(before), builds(after)):
        either = new or old
        assert either is not None
        found.append(Change(name=either.name, arch=either.arch, before=old, after=new))
    return tuple(found)
