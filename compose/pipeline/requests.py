"""From a treefile to the request for the solver."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from compose.architecture import host_basearch
from compose.cachedir import TREEFILES
from compose.errors import TreefileError
from compose.events import Reporter
from compose.pipeline.options import ComposeOptions
from compose.rpm.nevra import Nevra
from compose.rpm.repos import RepoAccess, RepoNetwork, override_dirs_of, repo_dirs_of, vars_dirs_of
from compose.solve.request import LocalRpm, SolveRequest
from compose.treefile.known import KnownFiles
from compose.treefile.load import load_treefile
from compose.treefile.model import LoadedTreefile, Treefile

if TYPE_CHECKING:
    from compose.solve.locked import LockRequest


def load(
    options: ComposeOptions, reporter: Reporter, known: KnownFiles | None = None, *, installs: bool = True
) -> LoadedTreefile:
    """Load the treefile of a compose, and report its warnings. installs: will its packages be installed, so that there must be
    some? Raises TreefileError."""
    loaded = load_treefile(options.treefile, basearch=options.basearch or host_basearch(), known=known)
    for warning in loaded.warnings:
        reporter.warn(warning)
    treefile = loaded.treefile
    if installs and not treefile.packages and not treefile.repo_packages and not treefile.rpm_files:
        raise TreefileError(f"{options.treefile}: no packages are listed", hint="list at least one under packages:")
    return loaded


def known_files(options: ComposeOptions) -> KnownFiles:
    """Treefiles that earlier composes with this cachedir have read."""
    return KnownFiles(os.path.join(options.cachedir, TREEFILES))


def repo_access(options: ComposeOptions, loaded: LoadedTreefile, *, with_lockfile: bool) -> RepoAccess:
    """The package repositories to use. with_lockfile: use lockfile-repos too.

    A treefile that names no repositories uses all enabled ones, except with a lockfile and lockfile-repos: then it uses only
    the latter, as with rpm-ostree.
    """
    treefile, root = loaded.treefile, options.source_root
    # an empty list counts as none (rpm-ostree's rpmostree_context_setup())
    repos = treefile.repos or None
    if with_lockfile and treefile.lockfile_repos:
        repos = tuple(dict.fromkeys((*(repos or ()), *treefile.lockfile_repos)))
    return RepoAccess(
        repo_dirs=repo_dirs_of(root) if root else (loaded.directory,),
        override_dirs=override_dirs_of(root) if root else (),
        vars_dirs=vars_dirs_of(root) if root else (),
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
    installed: tuple[Nevra, ...] = (),
    links: bool = False,
    files: tuple[tuple[str, ...], ...] = (),
) -> SolveRequest:
    """The request of a treefile to the solver."""
    return SolveRequest(
        packages=treefile.packages,
        repo_packages=treefile.repo_packages,
        exclude_packages=treefile.exclude_packages,
        recommends=treefile.recommends,
        access=access,
        rpm_files=rpm_files,
        lock=lock,
        advisories=advisories,
        installed=installed,
        links=links,
        files=files,
    )


def local_rpms(
    treefile: Treefile, access: RepoAccess, network: RepoNetwork, reporter: Reporter
) -> tuple[LocalRpm, ...]:
    """Fetch and verify the RPMs of rpm-files."""
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
