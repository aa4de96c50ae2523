"""The beginning of a compose: from the treefile to the exact packages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from compose import fs
from compose.cachedir import PREVIEW, PROGRAMS, CacheDir
from compose.events import Reporter
from compose.inputhash import Input, InputChange, InputKind, input_hash, inputs_of
from compose.ostree.repo import Repo
from compose.pipeline.added import user_metadata
from compose.pipeline.expected import expected_of, warnings_of
from compose.pipeline.options import ComposeOptions
from compose.pipeline.previous import Accounts, Given, Previous, named_parent
from compose.pipeline.requests import known_files, load, local_rpms, repo_access, request_of
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.request import SolveRequest
from compose.solve.resolution import Resolution
from compose.solve.solver import solve
from compose.treefile.load import load_treefile
from compose.treefile.model import LoadedTreefile, MetadataPlace, Treefile

# imported late: most composes are unchanged, have no lockfile or layers, and end in the time these imports take
if TYPE_CHECKING:
    from compose.blobs import BlobStore
    from compose.layers import LayerCommit
    from compose.lock.model import ArchLock
    from compose.pipeline.locking import Locking
    from compose.workroot.memory import ProgramMemory


@dataclass(slots=True)
class Stopwatch:
    """Measures the wall time of each stage, and reports its start and end. laps: (name, seconds), in order."""

    reporter: Reporter
    laps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        self.reporter.stage_begun(name)
        failed = True
        try:
            yield
            failed = False
        finally:
            seconds = time.monotonic() - begun
            self.laps.append((name, seconds))
            self.reporter.stage_ended(name, seconds, failed=failed)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that determines a tree.

    layers: of ostree-layers. lock: the part of a lockfile that was used, None without one. given: what was taken from a
    record. labelled: will the tree have SELinux labels? parts: all inputs, and digest: their hash. rerun_programs: run every
    program, even if its result is remembered.
    """

    loaded: LoadedTreefile
    cache: CacheDir
    repo: Repo
    layer_repo: Repo
    previous: Previous
    access: RepoAccess
    network: RepoNetwork
    request: SolveRequest
    resolution: Resolution
    layers: tuple[LayerCommit, ...]
    lock: ArchLock | None
    given: Given
    labelled: bool
    parts: tuple[Input, ...]
    rerun_programs: bool

    @property
    def digest(self) -> str:
        return input_hash(self.parts)

    @property
    def treefile(self) -> Treefile:
        return self.loaded.treefile

    def unchanged(self, options: ComposeOptions) -> bool:
        """Is there nothing to do? Packages are downloaded even if nothing changed."""
        return not (options.download_only or options.download_only_rpms or self.changed(options))

    def changed(self, options: ComposeOptions) -> bool:
        """Was the previous commit made from other inputs than these, or is another one wanted anyway?"""
        return options.force_nocache or self.digest != self.previous.inputhash or bool(self.demands())

    def demands(self) -> tuple[InputChange, ...]:
        """What the repository's config asks for and the previous commit lacks, so that clients would refuse it."""
        previous, config = self.previous, self.repo.config
        found: list[tuple[str, str | None, str]] = []
        if self.treefile.ref and config.collection_id not in (None, previous.collection):
            found.append(("collection-id", previous.collection, config.collection_id))
        if config.composefs and not previous.measured:
            found.append(("ex-integrity.composefs", None, "yes"))
        return tuple(
            InputChange(kind=InputKind.REPOSITORY, name=name, before=before, after=after)
            for name, before, after in found
        )

    def read_accounts(self) -> Accounts:
        """The accounts of the previous commit. Raises RepositoryError."""
        known = self.given.accounts
        return known if known is not None else self.previous.read_accounts(self.repo)

    def open_memory(self) -> ProgramMemory | None:
        """Remembered program results; None when every program is to run. Use one per compose: it knows its lower layers."""
        from compose.workroot.memory import ProgramMemory

        return None if self.rerun_programs else ProgramMemory(self.cache.join(PROGRAMS))

    @cached_property
    def store(self) -> BlobStore:
        """The blob store; one per compose, since it remembers the blobs it has made."""
        from compose.blobs import BlobStore

        return BlobStore(self.cache.join("blobs"))


def gather(
    options: ComposeOptions,
    reporter: Reporter,
    watch: Stopwatch,
    stack: ExitStack,
    given: Given | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Inputs:
    """Read the treefile and choose every package, without downloading any. meanwhile: see solve(). Raises a ComposeError."""
    # fail now rather than after the commit
    for path in options.result_files:
        fs.check_place(path)
    known = known_files(options)
    with watch.stage("treefile"):
        loaded = load(options, reporter, known)
        treefile = loaded.treefile
        lock = _read_lock(options, treefile, reporter)
    cache = stack.enter_context(CacheDir(options.cachedir).shared(reporter))
    known.keep()
    repo = stack.enter_context(_open_repo(options, cache))
    # now rather than when it turns out that something changed, for their errors
    named_parent(options, repo)
    user_metadata(options, treefile)
    previous = Previous() if given and given.accounts is not None else Previous.of(repo, options, treefile.ref)
    layer_repo = repo if options.layer_repo is None else stack.enter_context(Repo.open(options.layer_repo))
    labelled = treefile.selinux and not options.disable_selinux
    foreign = lock is not None and lock.request is not None
    access = repo_access(options, loaded, with_lockfile=given.lockfile_repos if given else foreign)
    network = RepoNetwork(cachedir=cache.path, cache_only=options.cache_only, proxy=options.proxy)
    layers = _resolve_layers(layer_repo, treefile, given.layers if given else {})
    expected = expected_of(treefile, labelled=labelled)
    with watch.stage("solve"):
        request = request_of(
            treefile,
            access,
            rpm_files=local_rpms(treefile, access, network, reporter),
            lock=lock.request if lock else None,
            advisories=treefile.advisories_metadata is not MetadataPlace.DISABLED,
            files=tuple(each.files for each in expected),
        )
        if lock is not None and lock.own is not None:
            from compose.pipeline.locking import locked_resolution

            resolution = locked_resolution(lock.own, lock.path, request, network, reporter)
            if given is not None and resolution.advisories is None:
                resolution = replace(resolution, advisories=given.advisories)
        else:
            resolution = solve(request, network, reporter, meanwhile)
    for warning in warnings_of(expected, resolution.lacking):
        reporter.warn(warning)
    if options.write_lockfile_to is not None:
        from compose.pipeline.locking import write_foreign

        write_foreign(options.write_lockfile_to, resolution, options.source_date_epoch, reporter)
    reporter.info(f"{len(resolution.packages)} packages from {', '.join(repo.id for repo in resolution.repos)}")
    return Inputs(
        loaded=loaded,
        cache=cache,
        repo=repo,
        layer_repo=layer_repo,
        previous=previous,
        access=access,
        network=network,
        request=request,
        resolution=resolution,
        layers=layers,
        lock=lock.own if lock else None,
        given=given or Given(lockfile_repos=foreign),
        labelled=labelled,
        parts=_parts(loaded, resolution, layers, labelled=labelled),
        rerun_programs=options.rerun_programs,
    )


def _read_lock(options: ComposeOptions, treefile: Treefile, reporter: Reporter) -> Locking | None:
    if not (options.lockfiles or options.lockfile_strict):
        return None
    from compose.pipeline.locking import read

    return read(options, treefile, reporter)


def _resolve_layers(repo: Repo, treefile: Treefile, recorded: Mapping[str, str]) -> tuple[LayerCommit, ...]:
    if not (treefile.ostree_layers or treefile.ostree_override_layers):
        return ()
    from compose.layers import resolve_layers

    return resolve_layers(repo, treefile.ostree_layers, treefile.ostree_override_layers, recorded)


def reread(inputs: Inputs, options: ComposeOptions) -> Inputs:
    """The inputs with the treefile's files read again, after --accept-new-ids has written one."""
    loaded = load_treefile(options.treefile, basearch=inputs.treefile.basearch, known=known_files(options))
    parts = _parts(loaded, inputs.resolution, inputs.layers, labelled=inputs.labelled)
    return replace(inputs, loaded=loaded, parts=parts)


def _parts(
    loaded: LoadedTreefile, resolution: Resolution, layers: tuple[LayerCommit, ...], *, labelled: bool
) -> tuple[Input, ...]:
    rows = [(each.ref, each.content) for each in layers]
    return inputs_of(loaded, resolution.packages, layers=rows, labelled=labelled)


def _open_repo(options: ComposeOptions, cache: CacheDir) -> Repo:
    if options.repo is None:
        return Repo.create(cache.join(PREVIEW))
    repo = Repo.open(options.repo)
    if not (options.dry_run or options.download_only or options.download_only_rpms):
        repo.check_writable()
        if repo.config.composefs:
            from compose.ostree.composefs import require_program

            require_program()
    return repo
