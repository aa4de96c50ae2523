"""The whole compose on one screen: `compose_tree()`. It alone knows all stages.

treefile -> solve -> fetch -> import -> assemble -> postprocess -> label -> commit
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from compose import metadata
from compose.assemble.stage import assemble
from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.commit import CommitOptions, commit_tree
from compose.errors import TreefileError, UsageError
from compose.events import Reporter
from compose.fetch.fetcher import fetch
from compose.importer import ImportCache, import_packages
from compose.inputhash import input_hash
from compose.label import label
from compose.ostree.repo import Repo
from compose.pipeline import results, settings
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.previous import Previous
from compose.postprocess.drift import check_accounts
from compose.postprocess.options import Dropped
from compose.postprocess.stage import postprocess
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.solver import solve
from compose.treefile.load import load_treefile
from compose.treefile.model import LoadedTreefile

_DROPPED_SHOWN = 20


def compose_tree(options: ComposeOptions, reporter: Reporter) -> ComposeResult:
    """Compose what a treefile describes. Raises a ComposeError; then the repository is as it was."""
    watch = _Stopwatch()
    with ExitStack() as stack:
        with watch.stage("treefile"):
            loaded = _load(options, reporter)
        cache = CacheDir(options.cachedir)
        repo = stack.enter_context(_open_repo(options, cache))
        treefile, labelled = loaded.treefile, loaded.treefile.selinux and not options.disable_selinux
        previous = Previous.of(repo, options, treefile.ref)
        access = _access(options, loaded)
        network = RepoNetwork(cachedir=cache.path, cache_only=options.cache_only, proxy=options.proxy)

        with watch.stage("solve"):
            resolution = solve(settings.request(treefile, access), network, reporter)
        reporter.info(f"{len(resolution.packages)} packages from {', '.join(repo.id for repo in resolution.repos)}")
        digest = input_hash(treefile=loaded.digest_input, packages=resolution.packages, labelled=labelled)

        def ended(outcome: Outcome, **more: Any) -> ComposeResult:
            return ComposeResult(
                outcome=outcome,
                packages=resolution.packages,
                repo=repo.path,
                preview=options.repo is None,
                ref=treefile.ref,
                stage_seconds=tuple(watch.laps),
                **more,
            )

        downloading = options.download_only or options.download_only_rpms
        if not options.force_nocache and not downloading and digest == previous.inputhash:
            return ended(Outcome.UNCHANGED, commit=previous.checksum)
        if options.dry_run:
            results.touch(options)
            return ended(Outcome.DRY_RUN)
        with watch.stage("fetch"):
            files = fetch(resolution, access, network, reporter, jobs=options.jobs)
        if options.download_only_rpms:
            return ended(Outcome.DOWNLOADED)
        store = BlobStore(cache.join("blobs"))
        with watch.stage("import"):
            manifests = import_packages(files, ImportCache(cache.join("manifests"), store), options.jobs, reporter)
        if options.download_only:
            return ended(Outcome.DOWNLOADED)

        epoch = settings.epoch(options, manifests, previous)
        version = settings.version(options, treefile, previous, epoch)
        with cache.scratch() as work:
            with watch.stage("assemble"):
                assembled = assemble(
                    manifests, settings.assemble_options(treefile, previous, repo, epoch), store, work, reporter
                )
            with watch.stage("postprocess"):
                layout = settings.postprocess_options(loaded, labelled, version, epoch)
                processed = postprocess(assembled.tree, layout, store, work, reporter)
            _tell_dropped(processed.dropped, reporter)
            check_accounts(
                processed.tree, store, settings.account_references(options, treefile, previous, repo), reporter
            )
            tree = processed.tree
            if labelled:
                with watch.stage("label"):
                    tree = label(tree, store, work, reporter)
            with watch.stage("commit"):
                own = settings.own_metadata(resolution, treefile, digest, version, processed.kernel)
                ref = None if options.write_commitid_to else treefile.ref
                parent = _parent(options, repo, treefile.ref)
                committed = commit_tree(
                    tree,
                    store,
                    repo,
                    CommitOptions(
                        metadata=metadata.assemble_metadata(settings.user_metadata(options, treefile), own),
                        detached=metadata.assemble_metadata({}, settings.detached_metadata(resolution, treefile)),
                        gpg_key=treefile.gpg_key,
                        parent=parent,
                        timestamp=epoch,
                        ref=ref,
                        jobs=options.jobs,
                    ),
                    reporter,
                )
        result = ended(
            Outcome.COMMITTED,
            ref_moved=ref is not None,
            commit=committed.checksum,
            version=version,
            tree=tree,
            dropped=tuple(
                sorted(
                    [
                        *((each.path, each.reason) for each in assembled.dropped),
                        *((each.path, each.reason) for each in processed.dropped),
                    ]
                )
            ),
        )
        results.write_results(options, result, committed, digest, epoch, results.package_diff(repo, parent, resolution))
        return result


def _tell_dropped(dropped: tuple[Dropped, ...], reporter: Reporter) -> None:
    for each in dropped[:_DROPPED_SHOWN]:
        reporter.info(f"not in the commit: /{each.path} ({each.reason})")
    if len(dropped) > _DROPPED_SHOWN:
        reporter.info(f"not in the commit: {len(dropped) - _DROPPED_SHOWN} more; --write-composejson-to lists all")


def flattened_treefile(path: str) -> str:
    """What --print-only prints. Raises TreefileError."""
    return load_treefile(path, basearch=host_basearch()).json


def host_basearch() -> str:
    """RPM base architecture of this machine."""
    machine = platform.machine()
    return {"i686": "i386", "i586": "i386", "armv7l": "armhfp"}.get(machine, machine)


@dataclass(slots=True)
class _Stopwatch:
    laps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.laps.append((name, time.monotonic() - begun))


def _load(options: ComposeOptions, reporter: Reporter) -> LoadedTreefile:
    loaded = load_treefile(options.treefile, basearch=host_basearch())
    for warning in loaded.warnings:
        reporter.warn(warning)
    refused = [f"{place}: {key}: known, but this version does not act on it" for key, place in loaded.unsupported]
    if refused:
        raise TreefileError(refused[0], details=refused[1:], hint="remove it, or compose with rpm-ostree")
    if not loaded.treefile.packages and not loaded.treefile.repo_packages:
        raise TreefileError(f"{options.treefile}: packages: there are none", hint="a tree needs at least one package")
    return loaded


def _open_repo(options: ComposeOptions, cache: CacheDir) -> Repo:
    if options.repo is None:
        return Repo.create(cache.join("preview-repo"))
    repo = Repo.open(options.repo)
    if not (options.dry_run or options.download_only or options.download_only_rpms):
        repo.check_writable()
    return repo


def _access(options: ComposeOptions, loaded: LoadedTreefile) -> RepoAccess:
    treefile, root = loaded.treefile, options.source_root
    return RepoAccess(
        repo_dirs=(os.path.join(root, "etc/yum.repos.d"),) if root else (loaded.directory,),
        vars_dirs=tuple(os.path.join(root, name) for name in ("etc/yum/vars", "etc/dnf/vars")) if root else (),
        basearch=treefile.basearch,
        releasever=treefile.releasever,
        repovars=treefile.repovars,
        repos=treefile.repos,
        root=root,
    )


def _parent(options: ComposeOptions, repo: Repo, ref: str | None) -> str | None:
    if options.no_parent:
        return None
    if options.parent is not None:
        checksum = repo.resolve(options.parent)
        if checksum is None:
            raise UsageError(f"--parent={options.parent}: {repo.path} has no such ref")
        return checksum
    return repo.resolve(ref) if ref else None
