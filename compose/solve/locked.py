"""What a lockfile lets the solver see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compose.errors import SolveError
from compose.events import Reporter

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedBuild:
    """A build that a lockfile has. evr: [epoch:]version-release. arch: None for any. digest: "sha256:...", or None."""

    name: str
    evr: str
    arch: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return f"{self.name}-{self.evr}" + (f".{self.arch}" if self.arch else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """builds: those a solve may take of their names. strict: of other names it may take nothing. repos: from these it may
    take only what is locked. place: the lockfile, for messages."""

    builds: tuple[LockedBuild, ...]
    strict: bool
    repos: frozenset[str] = frozenset()
    place: str = "lockfile"


def hide(dnf: Any, base: Any, lock: LockRequest, reporter: Reporter) -> frozenset[str]:
    """Hide from the solver what the lockfile does not have; returns the NEVRAs hidden.

    Of a name that is locked only the locked build stays; of others nothing when the lock is strict, and nothing of the
    repositories that are there for locked packages only. A locked build that is nowhere, or has another digest, is a
    SolveError when the lock is strict, else a warning.
    """
    builds: dict[str, list[LockedBuild]] = {}
    for build in lock.builds:
        builds.setdefault(build.name, []).append(build)
    hidden = dnf.rpm.PackageSet(base)
    nevras = set()
    differing: dict[LockedBuild, str] = {}
    met: set[LockedBuild] = set()
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
        same = [build for build in candidates if _is(build, package)]
        fitting = [build for build in same if _digest_fits(build, package)]
        met.update(fitting)
        if not fitting:
            hidden.add(package)
            nevras.add(package.get_nevra())
            for build in same:
                found = package.get_checksum()
                differing[build] = (
                    f"{package.get_nevra()} of repository {package.get_repo_id()!r} has "
                    f"{found.get_type_str()}:{found.get_checksum()}, the lockfile says {build.digest}"
                )
    base.get_rpm_package_sack().add_user_excludes(hidden)
    missing = [build for build in lock.builds if build not in met]
    _tell([differing.get(build) or f"{build} is in no enabled repository" for build in missing], lock, reporter)
    return frozenset(nevras)


def way_out(lock: LockRequest, names: Iterable[str]) -> str:
    """What to do when packages of these names are needed in builds that the lockfile does not let the solver see."""
    wanted = set(names)
    if moving := sorted(wanted & {build.name for build in lock.builds}):
        return (
            f"another build of {', '.join(moving)} is locked: name it to compose lock update, or drop it from the lockfile "
            "when that is rpm-ostree's"
        )
    if lock.strict:
        return "lock anew (--ex-write-lockfile-to), or leave out --lockfile-strict: what is not locked is free then"
    return f"lock {', '.join(sorted(wanted))} too: of repositories in lockfile-repos only what is locked is taken"


def _tell(faults: Sequence[str], lock: LockRequest, reporter: Reporter) -> None:
    if not faults:
        return
    shown = [*faults[:_SHOWN], *([f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else [])]
    if lock.strict:
        raise SolveError(
            f"{lock.place}: {faults[0] if len(faults) == 1 else f'{len(faults)} locked packages cannot be had'}",
            hint="enable the repository that has them, or lock anew",
            details=shown if len(faults) > 1 else (),
        )
    for line in shown:
        reporter.warn(f"{lock.place}: {line}")


def _is(build: LockedBuild, package: Any) -> bool:
    return (build.evr, build.arch or package.get_arch()) == (package.get_evr(), package.get_arch())


def _digest_fits(build: LockedBuild, package: Any) -> bool:
    if build.digest is None:
        return True
    algorithm, _, digest = build.digest.partition(":")
    found = package.get_checksum()
    # another algorithm says nothing; what is downloaded is checked again with the repository's own
    return bool(found.get_type_str() != algorithm or found.get_checksum() == digest)
