"""Making and renewing the lockfile of a treefile."""

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
    """fedora.lock.yaml for fedora.yaml."""
    return os.path.splitext(treefile)[0] + ".lock.yaml"


def read(path: str) -> Lock | None:
    """The lockfile of compose at a path, None when there is none. Raises TreefileError."""
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
    """Lock one architecture of a treefile; what is locked for others stays. Returns what changed.

    moving: names of binary or source packages that may change while the rest keeps what is locked; None for all. The
    packages are fetched, for who signed them is locked too. Raises a ComposeError; then the lockfile is as it was.
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
