"""A compose in parts, with a root directory to look at and change in between: install, postprocess, commit, rootfs.

What is known of the making of a root lies beside it; `commit` takes it from there. The parts one after the other give the
commit that compose_tree() gives.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass

from compose import fs, syscalls
from compose.blobs import BlobStore
from compose.cachedir import LABELS, PROGRAMS, CacheDir
from compose.errors import UsageError
from compose.events import Reporter
from compose.inputhash import Input, InputKind, input_hash, inputs_of
from compose.label import audit, label
from compose.lint.subject import few
from compose.ostree.composefs import require_program
from compose.ostree.repo import Repo
from compose.pipeline import beside, results, settings
from compose.pipeline import facts as making
from compose.pipeline.accounts import keep_new
from compose.pipeline.committing import write_commit
from compose.pipeline.contents import fetch_packages, import_files, sandbox_checked
from compose.pipeline.facts import Facts
from compose.pipeline.gate import check_labels, check_tree
from compose.pipeline.inputs import Stopwatch, gather, reread
from compose.pipeline.making import keep_sources_of_root, leave_sources
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.previous import Previous, parent_of
from compose.pipeline.requests import load
from compose.pipeline.stages import make_tree, tell_dropped
from compose.postprocess.drift import check_accounts
from compose.postprocess.options import PostprocessOptions
from compose.postprocess.stage import complete
from compose.records import Records, attributed, records_of, records_of_root, runs_of
from compose.rootfs import Root, check_no_mounts, check_root, read_rootfs, write_rootfs
from compose.rpm.database import DATABASE_PATH, read_packages
from compose.rpm.nevra import Nevra
from compose.tree import Tree
from compose.treefile.model import LoadedTreefile, Treefile
from compose.workroot.memory import ProgramMemory

ROOTFS = "rootfs"
# Writers of what is in a root directory: made by something else, or changed after `install`.
_FOREIGN, _CHANGED = "rootfs", "rootfs:changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What `install` ended with. rootfs: the directory, None when there was nothing to do."""

    outcome: Outcome
    packages: int
    rootfs: str | None = None


def install(
    options: ComposeOptions, directory: str, reporter: Reporter, *, finish: bool, plain_etc: bool = False
) -> Installed:
    """Compose up to the commit and write the root to DIRECTORY/rootfs.

    finish: with postprocessing. plain_etc: /etc stays where programs look for it, as in a container image. Raises a
    ComposeError; then DIRECTORY is as it was.
    """
    rootfs = os.path.join(directory, ROOTFS)
    if os.path.lexists(rootfs):
        raise UsageError(f"{rootfs} exists already", hint="give another directory, or remove it")
    watch = Stopwatch(reporter)
    with ExitStack() as stack:
        inputs = gather(options, reporter, watch, stack)
        count = len(inputs.resolution.packages)
        if inputs.unchanged(options):
            return Installed(outcome=Outcome.UNCHANGED, packages=count)
        if options.dry_run:
            results.touch(options)
            return Installed(outcome=Outcome.DRY_RUN, packages=count)
        if not (options.download_only or options.download_only_rpms):
            check_root()
        accounts = inputs.read_accounts()
        with sandbox_checked(inputs, options, reporter) as checked, watch.stage("fetch"):
            files = fetch_packages(inputs, options, reporter, checked)
        if options.download_only_rpms:
            return Installed(outcome=Outcome.DOWNLOADED, packages=count)
        with watch.stage("import"):
            manifests = import_files(inputs, files, options, reporter)
        if options.download_only:
            return Installed(outcome=Outcome.DOWNLOADED, packages=count)
        with inputs.cache.scratch() as work:
            made = make_tree(inputs, manifests, accounts, options, work, watch, reporter, finish=finish)
        if finish:
            check_tree(made.tree, inputs.store, container=inputs.treefile.container, reporter=reporter)
        tree = _with_etc(made.tree) if plain_etc else made.tree
        with fs.storage_errors(directory):
            os.makedirs(directory, exist_ok=True)
        if keep_new(made.ids, reporter):
            inputs = reread(inputs, options)
        with watch.stage("write"):
            write_rootfs(tree, inputs.store, rootfs, reporter)
        known = settings.facts(inputs, made.version, made.epoch, made.kernel)
        try:
            beside.write_facts(rootfs, dataclasses.replace(known, tree=making.tree_digest(tree)))
            programs = runs_of(each for _, each in made.programs)
            beside.write_records(rootfs, records_of_root(tree, programs, inputs.parts))
            leave_sources(inputs, accounts, files, options, rootfs, reporter)
            results.touch(options)
        except BaseException:
            # of a root alone nobody knows what it is
            fs.remove_tree(rootfs)
            raise
        return Installed(outcome=Outcome.INSTALLED, packages=count, rootfs=rootfs)


def postprocess_rootfs(rootfs: str, treefile: str | None, cachedir: str, epoch: int | None, reporter: Reporter) -> bool:
    """Make a root directory what a client can boot, in place. False when it is that already.

    treefile: None for the defaults of an empty one. Raises a ComposeError; then the directory is as it was.
    """
    with CacheDir(cachedir).shared(reporter) as cache:
        return _postprocess_rootfs(rootfs, treefile, cache, epoch, reporter)


def _postprocess_rootfs(
    rootfs: str, treefile: str | None, cache: CacheDir, epoch: int | None, reporter: Reporter
) -> bool:
    store = BlobStore(cache.join("blobs"))
    # a link to it and "." are names of the directory, which is what is exchanged
    rootfs = os.path.realpath(rootfs)
    check_no_mounts(rootfs)
    known, made = beside.read_facts(rootfs), beside.read_records(rootfs)
    with cache.scratch() as work:
        loaded = load(ComposeOptions(treefile=treefile, cachedir=cache.path), reporter) if treefile else None
        root = _read(rootfs, made, store, reporter, loaded.treefile.ignore_devices if loaded else True)
        tree = root.tree
        when = epoch if epoch is not None else known.epoch if known else int(time.time())
        layout = _layout(loaded, known, when)
        processed = complete(tree, layout, store, work, reporter, memory=ProgramMemory(cache.join(PROGRAMS)))
        if processed.tree is tree:
            return False
        tell_devices(root, reporter)
        tell_dropped(processed.dropped, reporter)
    # beside it, for the new one takes its place in one step
    with fs.storage_errors(rootfs):
        scratch = tempfile.mkdtemp(prefix=".compose-", dir=os.path.dirname(os.path.abspath(rootfs)))
    try:
        fresh = os.path.join(scratch, ROOTFS)
        write_rootfs(processed.tree, store, fresh, reporter)
        with fs.storage_errors(rootfs):
            syscalls.exchange(fresh, rootfs)
    finally:
        fs.remove_tree(scratch)
    if known is not None:
        labelled = loaded is not None and loaded.treefile.selinux
        decided = _decided(known, tree, made, loaded, labelled=labelled)
        known = dataclasses.replace(known, digest=input_hash(decided) if decided else "")
        beside.write_facts(rootfs, dataclasses.replace(known, tree=making.tree_digest(processed.tree)))
    if made is not None:
        programs = (*made.programs, *runs_of(processed.records))
        beside.write_records(rootfs, records_of_root(processed.tree, programs, made.inputs))
    return True


def commit_rootfs(options: ComposeOptions, rootfs: str, reporter: Reporter) -> ComposeResult:
    """Label a root directory and commit it, postprocessed if it was not. The directory stays as it is.

    Raises a ComposeError; then the repository is as it was.
    """
    if options.repo is None:
        raise UsageError("compose commit needs --repo")
    for path in options.result_files:
        fs.check_place(path)
    loaded = load(options, reporter)
    treefile = loaded.treefile
    labelled = treefile.selinux and not options.disable_selinux
    with (
        Repo.open(options.repo) as repo,
        CacheDir(options.cachedir).shared(reporter) as cache,
        cache.scratch() as work,
    ):
        store = BlobStore(cache.join("blobs"))
        repo.check_writable()
        if repo.config.composefs:
            require_program()
        previous = Previous.of(repo, options, treefile.ref)
        made = beside.read_records(rootfs)
        root = _read(rootfs, made, store, reporter, treefile.ignore_devices)
        tell_devices(root, reporter)
        tree = root.tree
        known = beside.read_facts(rootfs) or _facts_from(options, treefile, previous)
        decided = _decided(known, tree, made, loaded, labelled=labelled)
        known = dataclasses.replace(known, digest=input_hash(decided) if decided else "")
        installed = known.version
        version = dict(options.metadata_strings).get("version") or installed
        layout = settings.postprocess_options(loaded, labelled, version, known.epoch)
        processed = complete(tree, layout, store, work, reporter, memory=ProgramMemory(cache.join(PROGRAMS)))
        if not known.digest:
            # of the finished tree: before, the database may lie where the distribution has it
            known = dataclasses.replace(known, packages=_packages_in(processed.tree, store, work, reporter))
        references = settings.account_references(options, treefile, previous, previous.read_accounts(repo))
        check_accounts(processed.tree, store, references, reporter)
        tree, labels = processed.tree, None
        if labelled:
            memo = cache.join(LABELS)
            tree = label(tree, store, work, reporter, memo, jobs=options.jobs)
            labels = audit(tree, store, work, reporter)
            check_labels(labels, reporter)
        check_tree(tree, store, container=treefile.container, reporter=reporter, measured=repo.config.composefs)
        known = dataclasses.replace(known, version=version, kernel=processed.kernel)
        parent = parent_of(options, repo, treefile.ref)
        committed = write_commit(tree, store, repo, options, treefile, known, parent, reporter)
        dropped = [(each.path, each.reason) for each in processed.dropped]
        dropped += [(path, "device") for path in root.devices]
        result = ComposeResult(
            outcome=Outcome.COMMITTED,
            packages=(),
            package_count=len(known.packages),
            repo=repo.path,
            preview=False,
            ref=treefile.ref,
            ref_moved=treefile.ref is not None and not options.write_commitid_to,
            commit=committed.checksum,
            version=version,
            pkgdiff=results.package_diff(repo, parent, known.packages),
            tree=tree,
            labels=labels,
            dropped=tuple(sorted(dropped)),
        )
        programs = (*(made.programs if made else ()), *runs_of(processed.records))
        kept = records_of(tree, programs, decided)
        results.keep_records(repo, options, treefile, committed.checksum, kept, reporter)
        # the version is in the tree too
        if known.digest and version == installed:
            keep_sources_of_root(repo, rootfs, loaded, options, committed.checksum, known, parent, work, reporter)
        results.write_results(options, result, committed, known.digest, known.epoch)
        return result


def _with_etc(tree: Tree) -> Tree:
    editor = tree.edit()
    editor.remove("etc")
    editor.move("usr/etc", "etc")
    return editor.build()


def _read(rootfs: str, made: Records | None, store: BlobStore, reporter: Reporter, ignore_devices: bool) -> Root:
    """What is in a root directory; what nobody changed since `install` has its writers."""
    writer = _FOREIGN if made is None else _CHANGED
    found = read_rootfs(rootfs, store, reporter, writer=writer, ignore_devices=ignore_devices)
    return found if made is None else dataclasses.replace(found, tree=attributed(found.tree, made))


def tell_devices(root: Root, reporter: Reporter) -> None:
    """Say what of the root is not what it was."""
    if root.devices:
        reporter.info(f"devices, which a commit cannot hold, are left out: {_numbered(root.devices)}")
    if root.whiteouts:
        reporter.info(
            f"whiteouts are kept as .ostree-wh.NAME, for deployments to make them again: {_numbered(root.whiteouts)}"
        )


def _numbered(paths: tuple[str, ...]) -> str:
    return f"{len(paths)} ({few([f'/{path}' for path in paths])})"


def _decided(
    known: Facts, tree: Tree, made: Records | None, loaded: LoadedTreefile | None, *, labelled: bool
) -> tuple[Input, ...]:
    """What a compose of the treefile would be decided by; () when it would not make that tree: somebody changed the root since
    `install`, or what it is finished with is not what it was begun with."""
    if made is None or loaded is None or not known.digest or known.tree != making.tree_digest(tree):
        return ()
    taken = {each for each in made.inputs if each.kind in (InputKind.PACKAGE, InputKind.LAYER)}
    now = {*inputs_of(loaded, (), labelled=labelled)}
    if not all(each.is_of_commit_alone for each in now ^ ({*made.inputs} - taken)):
        return ()
    return tuple(sorted(now | taken))


def _facts_from(options: ComposeOptions, treefile: Treefile, previous: Previous) -> Facts:
    """Of a root that something else made: the time is the environment's or the clock's."""
    when = options.source_date_epoch if options.source_date_epoch is not None else int(time.time())
    epoch = max(when, previous.timestamp)
    return Facts(packages=(), epoch=epoch, version=settings.version(options, treefile, previous, epoch))


def _packages_in(tree: Tree, store: BlobStore, work: str, reporter: Reporter) -> tuple[Nevra, ...]:
    directory = os.path.join(work, "rpmdb")
    found = False
    with fs.storage_errors(directory):
        os.mkdir(directory)
        for name in tree.children(DATABASE_PATH):
            entry = tree[f"{DATABASE_PATH}/{name}"]
            if entry.blob is not None:
                with open(os.path.join(directory, name), "wb") as file:
                    file.write(store.read(entry.blob))
                found = True
    return tuple(each.nevra for each in read_packages(directory, reporter)) if found else ()


def _layout(loaded: LoadedTreefile | None, known: Facts | None, epoch: int) -> PostprocessOptions:
    if loaded is None:
        return PostprocessOptions(treefile_json=None, selinux=False, time=epoch)
    version = known.version if known else None
    return settings.postprocess_options(loaded, loaded.treefile.selinux, version, epoch)
