"""A lock as a value, and its ways from and to a resolution."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from compose.rpm.nevra import Nevra
from compose.solve.request import SolveRequest
from compose.solve.resolution import COMMAND_LINE, RepoSnapshot, Resolution, ResolvedPackage


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """package: as it was resolved. key: fingerprint or id of the key that signed it, "" when its repository says
    gpgcheck=0."""

    package: ResolvedPackage
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchLock:
    """The lock for one base architecture.

    request: digest of what was asked for, 64 hex digits. specs: of the treefile, sorted. repos: (id, time of its metadata),
    sorted by id. packages: sorted by NEVRA.
    """

    request: str
    specs: tuple[str, ...]
    repos: tuple[tuple[str, int], ...]
    packages: tuple[LockedPackage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """arches: by base architecture."""

    arches: Mapping[str, ArchLock]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Change:
    """A build that differs between two locks; before or after is None when there was or is none."""

    name: str
    arch: str
    before: Nevra | None
    after: Nevra | None


def request_digest(request: SolveRequest) -> str:
    """What decides a solve besides the repositories' content, as one digest."""
    asked = {
        "packages": sorted(spec.text for spec in request.packages),
        "repo-packages": sorted(
            (row.repo, sorted(spec.text for spec in row.packages)) for row in request.repo_packages
        ),
        "exclude-packages": sorted(spec.text for spec in request.exclude_packages),
        "recommends": request.recommends,
        "rpm-files": sorted(each.sha256 for each in request.rpm_files),
        "repos": None if request.access.repos is None else sorted(request.access.repos),
        "releasever": request.access.releasever,
        "repovars": sorted(request.access.repovars),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def specs_of(request: SolveRequest) -> tuple[str, ...]:
    """Everything that a treefile asks for, sorted."""
    rows = [*request.packages, *(spec for row in request.repo_packages for spec in row.packages)]
    return tuple(sorted({spec.text for spec in rows}))


def lock_of(request: SolveRequest, resolution: Resolution, keys: Mapping[Nevra, str]) -> ArchLock:
    """The lock of what was resolved. keys: who signed what. RPMs of no repository are pinned by the treefile itself."""
    return ArchLock(
        request=request_digest(request),
        specs=specs_of(request),
        repos=tuple((repo.id, repo.timestamp) for repo in resolution.repos),
        packages=tuple(
            LockedPackage(package=each, key=keys.get(each.nevra, ""))
            for each in resolution.packages
            if each.repo != COMMAND_LINE
        ),
    )


def resolution_of(lock: ArchLock, now: Resolution) -> Resolution:
    """What solving gave when the lock was made. now: the repositories as their .repo files say, of which keys are taken, and
    RPMs of no repository."""
    times = dict(lock.repos)
    repos = tuple(
        RepoSnapshot(id=each.id, timestamp=times.get(each.id, 0), gpgcheck=each.gpgcheck, gpgkeys=each.gpgkeys)
        for each in now.repos
        if each.id in times
    )
    packages = sorted((*(each.package for each in lock.packages), *now.packages), key=lambda each: each.nevra)
    return Resolution(packages=tuple(packages), repos=repos, directories=now.directories, locked=True)


def changes(before: ArchLock | None, after: ArchLock | None) -> tuple[Change, ...]:
    """What differs, sorted by name."""

    def builds(lock: ArchLock | None) -> dict[tuple[str, str], Nevra]:
        found = {}
        for each in lock.packages if lock else ():
            nevra = each.package.nevra
            # several builds of one name (kernels) are told apart by version
            key = (nevra.name, nevra.arch)
            found[key if key not in found else (f"{nevra.name} {nevra.evr}", nevra.arch)] = nevra
        return found

    old, new = builds(before), builds(after)
    return tuple(
        Change(name=name, arch=arch, before=old.get((name, arch)), after=new.get((name, arch)))
        for name, arch in sorted(old.keys() | new.keys())
        if old.get((name, arch)) != new.get((name, arch))
    )
