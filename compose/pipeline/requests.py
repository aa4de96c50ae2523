"""From a treefile to what the solver is asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from compose.cachedir import TREEFILES
from compose.errors import TreefileError
from compose.events import Reporter
from compose.pipeline.flat import host_basearch
from compose.pipeline.options import ComposeOptions
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.request import LocalRpm, SolveRequest
from compose.treefile.known import KnownFiles
from compose.treefile.load import load_treefile
from compose.treefile.model import LoadedTreefile, Treefile

if TYPE_CHECKING:
    from compose.solve.locked import LockRequest


def load(options: ComposeOptions, reporter: Reporter, known: KnownFiles | None = None) -> LoadedTreefile:
    """The treefile of a compose. Raises TreefileError."""
    loaded = load_treefile(options.treefile, basearch=options.basearch or host_basearch(), known=known)
    for warning in loaded.warnings:
        reporter.warn(warning)
    treefile = loaded.treefile
    if not treefile.packages and not treefile.repo_packages and not treefile.rpm_files:
        raise TreefileError(f"{options.treefile}: packages: there are none", hint="a tree needs at least one package")
    return loaded


def known_files(options: ComposeOptions) -> KnownFiles:
    """Those that composes with this cachedir have read before."""
    return KnownFiles(os.path.join(options.cachedir, TREEFILES))


def repo_access(options: ComposeOptions, loaded: LoadedTreefile, *, with_lockfile: bool) -> RepoAccess:
    """Which package repositories take part. with_lockfile: lockfile-repos do too, and are then the only ones where the treefile
    names no others, as with rpm-ostree; without a lockfile all enabled ones take part there."""
    treefile, root = loaded.treefile, options.source_root
    # none named in an empty list is none named (rpmostree_context_setup() of rpm-ostree)
    repos = treefile.repos or None
    if with_lockfile and treefile.lockfile_repos:
        repos = tuple(dict.fromkeys((*(repos or ()), *treefile.lockfile_repos)))
    return RepoAccess(
        repo_dirs=(os.path.join(root, "etc/yum.repos.d"),) if root else (loaded.directory,),
        vars_dirs=tuple(os.path.join(root, name) for name in ("etc/yum/vars", "etc/dnf/vars")) if root else (),
        basearch=treefile.basearch,
        releasever=treefile.releasever,
        repovars=treefile.repovars,
        repos=repos,
        root=root,
    )


def request_of(
    treefile: Treefile,
    access: RepoAccess,
    *,
    rpm_files: tuple[LocalRpm, ...] = (),
    lock: LockRequest | None = None,
    advisories: bool = False,
    links: bool = False,
) -> SolveRequest:
    """What a treefile asks the solver for."""
    return SolveRequest(
        packages=treefile.packages,
        repo_packages=treefile.repo_packages,
        exclude_packages=treefile.exclude_packages,
        recommends=treefile.recommends,
        access=access,
        rpm_files=rpm_files,
        lock=lock,
        advisories=advisories,
        links=links,
    )


def local_rpms(
    treefile: Treefile, access: RepoAccess, network: RepoNetwork, reporter: Reporter
) -> tuple[LocalRpm, ...]:
    """The RPMs of rpm-files, brought here and checked."""
    if not treefile.rpm_files:
        return ()
    # imports librpm
    from compose.fetch.local import Source, bring

    sources = tuple(
        Source(sha256=each.sha256, place=each.place, path=each.path, url=each.url) for each in treefile.rpm_files
    )
    paths = bring(sources, access, network, reporter)
    return tuple(
        LocalRpm(path=path, sha256=source.sha256, place=source.place)
        for source, path in zip(sources, paths, strict=True)
    )
