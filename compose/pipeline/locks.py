"""Writing and updating the lockfile of a treefile."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compose import fs
from compose.cachedir import CacheDir
from compose.errors import TreefileError, UsageError
from compose.events import Reporter
from compose.fetch.fetcher import fetch
from compose.lock import own
from compose.lock.model import ArchLock, Lock, LockDiff, compare_locks, lock_of
from compose.pipeline import locking
from compose.pipeline.options import ComposeOptions
from compose.pipeline.requests import load, local_rpms, repo_access, request_of
from compose.rpm.repos import RepoNetwork
from compose.solve.resolution import Advisory
from compose.solve.solver import solve


def default_path(treefile: str) -> str:
    """Default path of a treefile's lockfile: fedora.lock.yaml for fedora.yaml."""
    return os.path.splitext(treefile)[0] + ".lock.yaml"


def read(path: str) -> Lock | None:
    """Read a lockfile of compose; None when it does not exist. Raises TreefileError."""
    try:
        with open(path, "rb") as file:
            return own.parse_lock(file.read(), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TreefileError(f"cannot read the lockfile {path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LockUpdate:
    """The result of write_lock().

    diff: from the lock before. fixes: security advisories that the changed builds fix, with the listed builds that are new to
    the lock.
    """

    diff: LockDiff
    fixes: tuple[Advisory, ...]


def write_lock(
    options: ComposeOptions,
    path: str,
    reporter: Reporter,
    *,
    moving: Sequence[str] | None = None,
    security: bool = False,
    dry_run: bool = False,
) -> LockUpdate:
    """Lock the packages of a treefile for one architecture, and keep the lock of others.

    moving: names of binary or source packages that may change, while all others keep their locked builds; None for all.
    security: only packages with security advisories may change. dry_run: write nothing. Packages are fetched, since their
    signing keys are locked too. Raises a ComposeError; the lockfile is then unchanged.
    """
    if not dry_run:
        fs.check_place(path)
    loaded = load(options, reporter)
    treefile = loaded.treefile
    before = read(path)
    locked = before.arches.get(treefile.basearch) if before else None
    with CacheDir(options.cachedir).shared(reporter) as cache:
        access = repo_access(options, loaded, with_lockfile=False)
        network = RepoNetwork(cachedir=cache.path, cache_only=options.cache_only, proxy=options.proxy)
        request = request_of(
            treefile,
            access,
            rpm_files=local_rpms(treefile, access, network, reporter),
            advisories=True,
            installed=() if locked is None else tuple(each.package.nevra for each in locked.packages),
        )
        if security:
            if locked is None:
                raise UsageError(
                    f"{path} does not lock {treefile.basearch}: there is nothing to update",
                    hint=f"lock it first: compose lock {options.treefile}",
                )
            moving = _vulnerable(locked, solve(request, network, reporter).fixes)
        if moving is not None and locked is not None:
            request = replace(request, lock=locking.keeping(locked, moving, path))
        resolution = solve(request, network, reporter)
        keys = {}
        if not dry_run:
            files = fetch(resolution, access, network, reporter, jobs=options.jobs)
            keys = {file.package.nevra: file.key for file in files}
        part = lock_of(request, resolution, keys)
        if not dry_run:
            fs.atomic_write(path, locking.format_merged(before, treefile.basearch, part).encode())
    return LockUpdate(diff=compare_locks(locked, part), fixes=resolution.fixes)


def _vulnerable(locked: ArchLock, advisories: Sequence[Advisory]) -> list[str]:
    """Names of the locked packages that an advisory lists, and of all others from the same sources: they are built together."""
    listed = {nevra for each in advisories for nevra in each.packages}
    names = {nevra.rsplit("-", 2)[0] for nevra in listed}
    sources = {
        each.package.source_rpm
        for each in locked.packages
        if each.package.nevra.name in names and each.package.source_rpm
    }
    return sorted(
        {
            each.package.nevra.name
            for each in locked.packages
            if each.package.nevra.name in names or each.package.source_rpm in sources
        }
    )
