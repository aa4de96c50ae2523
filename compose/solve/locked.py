"""Restricts the solver to the builds in a lockfile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from compose.events import Reporter

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedBuild:
    """A build in a lockfile. evr: [epoch:]version-release. arch: None for any. digest: "sha256:...", or None."""

    name: str
    evr: str
    arch: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return f"{self.name}-{self.evr}" + (f".{self.arch}" if self.arch else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """A lockfile's restrictions. builds: the only builds that a solve may use of their names. strict: whether it may use no
    other names. repos: repositories of which it may use only what is locked. place: the lockfiles, for messages."""

    builds: tuple[LockedBuild, ...]
    strict: bool
    repos: frozenset[str] = frozenset()
    place: str = "lockfile"


def hide(dnf: Any, base: Any, lock: LockRequest, reporter: Reporter) -> frozenset[str]:
    """Hide from the solver what the lockfile does not allow; returns the hidden NEVRAs.

    Of a locked name, only the locked builds stay visible. Other names are hidden if the lock is strict, and in repositories for
    locked packages only. A locked build that cannot be found or has another digest is a warning: as in rpm-ostree, the solve
    fails if it is needed.
    """
    builds: dict[str, list[LockedBuild]] = {}
    for build in lock.builds:
        builds.setdefault(build.name, []).append(build)
    hidden = dnf.rpm.PackageSet(base)
    nevras = set()
    differing: dict[LockedBuild, str] = {}
    found_builds: set[LockedBuild] = set()
    query = dnf.rpm.PackageQuery(base)
    query.filter_available()
    if not lock.strict and not lock.repos:
        query.filter_name(sorted(builds))
    for package in query:
        candidates = builds.get(package.get_name())
        if candidates is None:
            if lock.strict or package.get_repo_id() in lock.repos:
                hidden.add(package)
                nevras.add(package.get_nevra())
            continue
        same = [build for build in candidates if _is_build(build, package)]
        matching = [build for build in same if _has_digest(build, package)]
        found_builds.update(matching)
        if not matching:
            hidden.add(package)
            nevras.add(package.get_nevra())
            for build in same:
                checksum = package.get_checksum()
                differing[build] = (
                    f"{package.get_nevra()} of repository {package.get_repo_id()!r} has "
                    f"{checksum.get_type_str()}:{checksum.get_checksum()}, but the lockfile has {build.digest}"
                )
    base.get_rpm_package_sack().add_user_excludes(hidden)
    missing = [build for build in lock.builds if build not in found_builds]
    for build in missing[:_SHOWN]:
        reporter.warn(f"{lock.place}: {differing.get(build) or f'{build} is in no enabled repository'}")
    if len(missing) > _SHOWN:
        reporter.warn(f"{lock.place}: {len(missing) - _SHOWN} more locked packages are not available")
    return frozenset(nevras)


def way_out(lock: LockRequest, names: Iterable[str]) -> str:
    """A hint for when builds of these names are needed but hidden by the lockfile."""
    wanted = set(names)
    if moving := sorted(wanted & {build.name for build in lock.builds}):
        return (
            f"another build of {', '.join(moving)} is locked: update it with compose lock update, or remove it from the "
            "lockfile if that is rpm-ostree's"
        )
    if lock.strict:
        return (
            "write a new lockfile (--ex-write-lockfile-to), or leave out --lockfile-strict to allow unlocked packages"
        )
    return f"lock {', '.join(sorted(wanted))} too: only locked packages are taken from repositories in lockfile-repos"


def _is_build(build: LockedBuild, package: Any) -> bool:
    return (build.evr, build.arch or package.get_arch()) == (package.get_evr(), package.get_arch())


def _has_digest(build: LockedBuild, package: Any) -> bool:
    if build.digest is None:
        return True
    algorithm, _, digest = build.digest.partition(":")
    found = package.get_checksum()
    # a checksum of another type cannot be compared; the download is verified against the repository's own checksum in any case
    return bool(found.get_type_str() != algorithm or found.get_checksum() == digest)
