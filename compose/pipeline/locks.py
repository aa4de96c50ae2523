"""Writing and updating the lockfile of a treefile."""

from __future__ import annotations

import os
from collections.abc import Sequence

from compose import fs
from compose.cachedir import CacheDir
from compose.errors import TreefileError
from compose.events import Reporter
from compose.fetch.fetcher import fetch
from compose.lock import own
from compose.lock.model import Change, Lock, changes, lock_of
from compose.pipeline import locking
from compose.pipeline.options import ComposeOptions
from compose.pipeline.requests import load, local_rpms, repo_access, request_of
from compose.rpm.repos import RepoNetwork
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


def write_lock(
    options: ComposeOptions, path: str, reporter: Reporter, *, moving: Sequence[str] | None = None
) -> tuple[Change, ...]:
    """Lock the packages of a treefile for one architecture, and keep the lock of others. Returns the changes.

    moving: names of binary or source packages that may change, while all others keep their locked builds; None for all.
    Packages are fetched, since their signing keys are locked too. Raises a ComposeError; the lockfile is then unchanged.
    """
    loaded = load(options, reporter)
    treefile = loaded.treefile
    before = read(path)
    locked = before.arches.get(treefile.basearch) if before else None
    with CacheDir(options.cachedir).shared(reporter) as cache:
        access = repo_access(options, loaded, with_lockfile=False)
        network = RepoNetwork(cachedir=cache.path, cache_only=options.cache_only, proxy=options.proxy)
        kept = None if moving is None or locked is None else locking.keeping(locked, moving, path)
        request = request_of(treefile, access, rpm_files=local_rpms(treefile, access, network, reporter), lock=kept)
        resolution = solve(request, network, reporter)
        files = fetch(resolution, access, network, reporter, jobs=options.jobs)
        part = lock_of(request, resolution, {file.package.nevra: file.key for file in files})
        fs.atomic_write(path, locking.format_merged(before, treefile.basearch, part).encode())
    return changes(locked, part)
