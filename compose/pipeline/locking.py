"""Lockfiles in a compose: they fix the build of each package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compose import fs
from compose.errors import SolveError, TreefileError, TrustError, UsageError
from compose.events import Reporter
from compose.fetch.rpmfile import RpmFile
from compose.lock import own, rpmostree
from compose.lock.model import ArchLock, Lock, request_digest, resolution_of, specs_of
from compose.pipeline.options import ComposeOptions
from compose.rpm.repos import RepoNetwork
from compose.solve.locked import LockedBuild, LockRequest
from compose.solve.request import SolveRequest
from compose.solve.resolution import Resolution
from compose.solve.solver import describe
from compose.treefile.model import Treefile
from compose.treefile.parse import parse_json, parse_yaml
from compose.treefile.source import Located, SourceFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Locking:
    """The lock of a compose: either own (a lockfile of compose) or request (rpm-ostree's) is set. path: the last lockfile."""

    path: str
    own: ArchLock | None = None
    request: LockRequest | None = None


def read(options: ComposeOptions, treefile: Treefile, reporter: Reporter) -> Locking | None:
    """The lockfiles of a compose, None without any. Raises TreefileError, UsageError."""
    if not options.lockfiles:
        if options.lockfile_strict:
            raise UsageError("--lockfile-strict needs --lockfile")
        return None
    sources = [parse(path) for path in options.lockfiles]
    if any(own.MARK in source.value for source in sources):
        if len(sources) > 1:
            raise UsageError(
                "a lockfile of compose cannot be combined with another lockfile",
                hint="only lockfiles of rpm-ostree can be given several times",
            )
        lock = own.read_lock(sources[0])
        part = lock.arches.get(treefile.basearch)
        if part is None:
            raise TreefileError(
                f"{options.lockfiles[0]} has no lock for {treefile.basearch}",
                hint=f"add it: compose lock --lockfile={options.lockfiles[0]} {options.treefile}",
            )
        return Locking(path=options.lockfiles[0], own=part)
    builds = rpmostree.overlay(rpmostree.read_locked(source) for source in sources)
    reporter.info(f"{len(builds)} packages are locked by {', '.join(options.lockfiles)}")
    return Locking(
        path=options.lockfiles[-1],
        request=LockRequest(
            builds=builds,
            strict=options.lockfile_strict,
            repos=frozenset(treefile.lockfile_repos),
            place=", ".join(options.lockfiles),
        ),
    )


def parse(path: str) -> Located:
    """Parse a lockfile of either kind. Raises TreefileError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise TreefileError(f"cannot read the lockfile {path}: {error.strerror}") from error
    try:
        return parse_json(data, path) if data.lstrip().startswith(b"{") else parse_yaml(data, path)
    except SourceFault as fault:
        raise TreefileError(str(fault)) from fault


def locked_resolution(
    lock: ArchLock, path: str, request: SolveRequest, network: RepoNetwork, reporter: Reporter
) -> Resolution:
    """The locked packages as a resolution. Raises SolveError when the lock was made for another request, TreefileError when it
    has an advisory for another build."""
    if lock.request != request_digest(request):
        wanted, locked = set(specs_of(request)), set(lock.specs)
        details = [f"in the treefile, not in the lock: {each}" for each in sorted(wanted - locked)]
        details += [f"in the lock, no longer in the treefile: {each}" for each in sorted(locked - wanted)]
        raise SolveError(
            f"{path} does not match the treefile",
            hint="update it: compose lock update --keep, which keeps all locked builds",
            details=details or ("repos, releasever, repovars, excludes, recommends or rpm-files differ",),
        )
    now = describe(request, network, reporter)
    known = {repo.id for repo in now.repos}
    gone = sorted({each.package.repo for each in lock.packages} - known)
    if gone:
        raise SolveError(
            f"{path}: packages are locked from {', '.join(gone)}, not enabled in the treefile", hint="add it to repos:"
        )
    resolution = resolution_of(lock, now)
    builds = {str(each.nevra) for each in resolution.packages}
    for advisory in resolution.advisories or ():
        for nevra in advisory.packages:
            if nevra not in builds:
                raise TreefileError(
                    f"{path}: the advisory {advisory.id!r} lists {nevra}, which is not among the packages",
                    hint="update the lockfile: compose lock update --keep, which keeps all locked builds",
                )
    return resolution


def check_keys(lock: ArchLock, files: Sequence[RpmFile]) -> None:
    """Raise TrustError when a package is signed with another key than when it was locked."""
    keys = {each.package.nevra: each.key for each in lock.packages}
    faults = [
        f"{file.package.nevra}: signed by {file.key or 'no key that was checked'}, locked with {expected}"
        for file in files
        if (expected := keys.get(file.package.nevra)) and file.key != expected
    ]
    if faults:
        raise TrustError.of(
            faults,
            f"{len(faults)} packages are signed with other keys than when locked",
            hint="check that gpgcheck=1 and gpgkey= of their repositories have not changed",
        )


def keeping(lock: ArchLock, changing: Sequence[str], path: str) -> LockRequest:
    """A request that keeps all locked builds except of the packages named in `changing`, as binary or source packages."""
    moving = {
        each.package.nevra.name
        for each in lock.packages
        if each.package.nevra.name in changing or rpmostree.source_name(each.package.source_rpm) in changing
    }
    names = {each.package.nevra.name for each in lock.packages}
    sources = {rpmostree.source_name(each.package.source_rpm) for each in lock.packages}
    unknown = [name for name in changing if name not in names | sources]
    if unknown:
        raise UsageError(
            f"{path} has no package {', '.join(unknown)}", hint="name a locked package or its source package"
        )
    builds = tuple(
        LockedBuild(
            name=each.package.nevra.name,
            evr=each.package.nevra.evr,
            arch=each.package.nevra.arch,
            digest=":".join(each.package.checksum),
        )
        for each in lock.packages
        if each.package.nevra.name not in moving
    )
    return LockRequest(builds=builds, strict=False, place=path)


def write_foreign(path: str, resolution: Resolution, epoch: int | None, reporter: Reporter) -> None:
    """Write a lockfile in rpm-ostree's format, for --ex-write-lockfile-to."""
    newest = max((repo.timestamp for repo in resolution.repos), default=0)
    text, several = rpmostree.format_locked(resolution, generated=epoch if epoch is not None else newest)
    if several:
        reporter.warn(
            f"{path}: rpm-ostree's lockfiles hold one build per name: only the last build of {', '.join(several)} is written "
            "(compose lock writes a lockfile that holds all)"
        )
    fs.atomic_write(path, text.encode())


def format_merged(before: Lock | None, arch: str, part: ArchLock) -> str:
    """The text of a lockfile with the lock of one architecture replaced."""
    return own.format_lock(Lock(arches={**(before.arches if before else {}), arch: part}))
