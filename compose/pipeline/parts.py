"""A compose in steps, with a root directory to inspect and change in between: install, postprocess, commit, rootfs.

`install` leaves what it knows about a root beside it, and `commit` reads it from there. The steps one after the other make
the same commit as compose_tree().
"""

from __future__ import annotations

import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from compose import fs, syscalls
from compose.blobs import BlobStore
from compose.cachedir import LABELS, PROGRAMS, CacheDir
from compose.errors import StorageError, UsageError
from compose.events import Reporter
from compose.inputhash import Input, InputKind, input_hash, inputs_of
from compose.label import label
from compose.label.audit import compare, expected, question
from compose.lint.subject import few
from compose.ostree.composefs import require_program
from compose.ostree.repo import Repo
from compose.pipeline import beside, results, settings
from compose.pipeline.accounts import keep_new
from compose.pipeline.added import given_version
from compose.pipeline.committing import write_commit
from compose.pipeline.contents import fetch_packages, import_files, sandbox_checked
from compose.pipeline.facts import Facts, tree_digest
from compose.pipeline.gate import check_labels, check_tree
from compose.pipeline.inputs import Stopwatch, gather, reread
from compose.pipeline.making import keep_sources_of_root, leave_sources
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.previous import Previous, parent_of
from compose.pipeline.requests import load
from compose.pipeline.stages import make_tree, report_dropped
from compose.postprocess.drift import check_accounts
from compose.postprocess.options import PostprocessOptions
from compose.postprocess.stage import complete
from compose.records import Records, attributed, records_of, records_of_root, runs_of
from compose.rootfs import Root, check_no_mounts, check_root, read_rootfs, write_rootfs
from compose.rpm.database import DATABASE_PATH, read_packages
from compose.rpm.nevra import Nevra
from compose.scratch import directory_beside, remove_leftovers
from compose.solve.resolution import ResolvedPackage
from compose.tree import Tree
from compose.treefile.model import LoadedTreefile, Treefile
from compose.workroot.memory import ProgramMemory

ROOTFS = "rootfs"
SCRATCH = ".compose-root-"
"""Prefix of directories beside a root, for one that is being written."""
# Writers of files in a root directory: made by other tools, or changed after `install`.
_FOREIGN, _CHANGED = "rootfs", "rootfs:changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The result of `install`. packages: as solved. rootfs: the directory, None when none was written."""

    outcome: Outcome
    packages: tuple[ResolvedPackage, ...]
    rootfs: str | None = None


def install(
    options: ComposeOptions, directory: str, reporter: Reporter, *, finish: bool, plain_etc: bool = False
) -> Installed:
    """Compose all but the commit, and write the root to DIRECTORY/rootfs.

    finish: postprocess too. plain_etc: keep /etc in place, as in a container image, instead of /usr/etc; such a root is not
    committed, so nothing is left beside it. Raises a ComposeError; DIRECTORY is then left without a rootfs.
    """
    rootfs = os.path.join(directory, ROOTFS)
    if os.path.lexists(rootfs):
        raise UsageError(f"{rootfs} exists already", hint="remove it, or give another directory")
    if not (options.dry_run or options.download_only or options.download_only_rpms):
        fs.check_directory(directory)
    watch = Stopwatch(reporter)
    with ExitStack() as stack:
        inputs = gather(options, reporter, watch, stack)
        packages = inputs.resolution.packages
        if inputs.unchanged(options):
            return Installed(outcome=Outcome.UNCHANGED, packages=packages)
        if options.dry_run:
            results.touch(options)
            return Installed(outcome=Outcome.DRY_RUN, packages=packages)
        if not (options.download_only or options.download_only_rpms):
            check_root()
        accounts = inputs.read_accounts()
        with sandbox_checked(inputs, options, reporter) as checked, watch.stage("fetch"):
            files = fetch_packages(inputs, options, reporter, checked)
        if options.download_only_rpms:
            results.touch_for_download(inputs, options)
            return Installed(outcome=Outcome.DOWNLOADED, packages=packages)
        with watch.stage("import"):
            manifests = import_files(inputs, files, options, reporter)
        if options.download_only:
            results.touch_for_download(inputs, options)
            return Installed(outcome=Outcome.DOWNLOADED, packages=packages)
        with inputs.cache.scratch() as work:
            made = make_tree(inputs, manifests, accounts, options, work, watch, reporter, finish=finish)
        if finish:
            check_tree(made.tree, inputs.store, container=inputs.treefile.container, reporter=reporter)
        tree = _with_plain_etc(made.tree) if plain_etc else made.tree
        with fs.storage_errors(directory):
            os.makedirs(directory, exist_ok=True)
        if keep_new(made.ids, reporter):
            inputs = reread(inputs, options)
        with directory_beside(rootfs, SCRATCH) as scratch:
            fresh = os.path.join(scratch, ROOTFS)
            with watch.stage("write"):
                write_rootfs(tree, inputs.store, fresh, reporter)
            if not plain_etc:
                facts = settings.facts(inputs, made.version, made.epoch, made.kernel)
                # those of an earlier root in the same place, whose inode this one may have now
                beside.forget(rootfs)
                beside.write_facts(rootfs, dataclasses.replace(facts, tree=tree_digest(tree)))
                programs = runs_of(each for _, each in made.programs)
                beside.write_records(rootfs, records_of_root(tree, programs, inputs.parts))
                leave_sources(inputs, accounts, files, options, rootfs, reporter)
            # last: a root in part, or without its facts, would be taken for one that other tools made
            _rename(fresh, rootfs)
        if not plain_etc:
            results.touch(options)
        return Installed(outcome=Outcome.INSTALLED, packages=packages, rootfs=rootfs)


def postprocess_rootfs(
    rootfs: str,
    treefile: str | None,
    basearch: str | None,
    cachedir: str,
    epoch: int | None,
    jobs: int,
    reporter: Reporter,
) -> bool:
    """Turn a root directory into one that a client can boot, in place. False when it already is one.

    treefile: None for the defaults. basearch: its RPM base architecture, None for this machine's. epoch: time of changed
    files, in seconds since 1970; None for that of the install, else now. jobs: number of processes. Raises a ComposeError;
    the directory is then unchanged.
    """
    with CacheDir(cachedir).shared(reporter) as cache:
        loaded = None
        if treefile is not None:
            options = ComposeOptions(treefile=treefile, basearch=basearch, cachedir=cache.path)
            loaded = load(options, reporter, installs=False)
        return _postprocess_rootfs(rootfs, loaded, cache, epoch, jobs, reporter)


def _postprocess_rootfs(
    rootfs: str, loaded: LoadedTreefile | None, cache: CacheDir, epoch: int | None, jobs: int, reporter: Reporter
) -> bool:
    store = BlobStore(cache.join("blobs"))
    # the directory itself is exchanged, not a symlink to it or "."
    rootfs = os.path.realpath(rootfs)
    check_no_mounts(rootfs)
    facts, recorded = beside.read_facts(rootfs), beside.read_records(rootfs)
    with cache.scratch() as work:
        ignore_devices = loaded.treefile.ignore_devices if loaded else True
        root = _read(rootfs, recorded, store, reporter, jobs, ignore_devices)
        # of a run that was killed: the root may be finished since then
        beside.settle(rootfs)
        remove_leftovers(rootfs, SCRATCH)
        tree = root.tree
        when = epoch if epoch is not None else facts.epoch if facts else int(time.time())
        layout = _layout(loaded, facts, when)
        processed = complete(tree, layout, store, work, reporter, memory=ProgramMemory(cache.join(PROGRAMS)))
        if processed.tree is tree:
            return False
        report_devices(root, reporter)
        report_dropped(processed.dropped, reporter)
    if facts is not None:
        labelled = loaded is not None and loaded.treefile.selinux
        inputs = _inputs(facts, tree, recorded, loaded, labelled=labelled)
        facts = dataclasses.replace(
            facts, digest=input_hash(inputs) if inputs else "", tree=tree_digest(processed.tree)
        )
    if recorded is not None:
        programs = (*recorded.programs, *runs_of(processed.records))
        recorded = records_of_root(processed.tree, programs, recorded.inputs)
    # on the same filesystem, since the new root is exchanged with the old one atomically
    with directory_beside(rootfs, SCRATCH) as scratch:
        fresh = os.path.join(scratch, ROOTFS)
        write_rootfs(processed.tree, store, fresh, reporter)
        # kept open, since an overlay may give it another number when nobody uses it
        kept = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            beside.announce(rootfs, fresh, facts, recorded)
            with fs.storage_errors(rootfs):
                syscalls.exchange(fresh, rootfs)
        finally:
            # whoever reads them next looks for both names
            with suppress(StorageError):
                beside.settle(rootfs)
            os.close(kept)
    return True


def commit_rootfs(options: ComposeOptions, rootfs: str, reporter: Reporter) -> ComposeResult:
    """Commit a root directory: postprocess it if needed, and label it. The directory is not changed.

    Raises a ComposeError; the repository is then unchanged.
    """
    if options.repo is None:
        raise UsageError("compose commit needs --repo")
    for path in options.result_files:
        fs.check_place(path)
    loaded = load(options, reporter, installs=False)
    treefile = loaded.treefile
    labelled = treefile.selinux and not options.disable_selinux
    with (
        Repo.open(options.repo) as repo,
        CacheDir(options.cachedir).shared(reporter) as cache,
        cache.scratch() as work,
        ThreadPoolExecutor(1) as background,
    ):
        store = BlobStore(cache.join("blobs"))
        repo.check_writable()
        if repo.config.composefs:
            require_program()
        previous = Previous.of(repo, options, treefile.ref)
        # now rather than at the end, for their errors
        parent, version_given = parent_of(options, repo, previous), given_version(options, treefile)
        recorded = beside.read_records(rootfs)
        root = _read(rootfs, recorded, store, reporter, options.jobs, treefile.ignore_devices)
        report_devices(root, reporter)
        tree = root.tree
        facts = beside.read_facts(rootfs) or _new_facts(options, treefile, previous)
        inputs = _inputs(facts, tree, recorded, loaded, labelled=labelled)
        facts = dataclasses.replace(facts, digest=input_hash(inputs) if inputs else "")
        installed_version = facts.version
        version = version_given or installed_version
        layout = settings.postprocess_options(loaded, labelled, version, facts.epoch)
        processed = complete(tree, layout, store, work, reporter, memory=ProgramMemory(cache.join(PROGRAMS)))
        if not facts.digest:
            # read from the finished tree: before, the rpm database may be where the distribution keeps it
            facts = dataclasses.replace(facts, packages=_packages_in(processed.tree, store, work, reporter))
        references = settings.account_references(options, treefile, previous, previous.read_accounts(repo))
        check_accounts(processed.tree, store, references, reporter)
        tree, labels, expected_labels = processed.tree, None, None
        if labelled:
            expected_labels = background.submit(expected, question(tree, store, work), reporter)
            tree = label(tree, store, work, reporter, cache.join(LABELS), jobs=options.jobs)

        def confirm() -> None:
            nonlocal labels
            if expected_labels is not None:
                labels = compare(tree, expected_labels.result())
                check_labels(labels, reporter)

        check_tree(tree, store, container=treefile.container, reporter=reporter, measured=repo.config.composefs)
        facts = dataclasses.replace(facts, version=version, kernel=processed.kernel)
        programs = (*(recorded.programs if recorded else ()), *runs_of(processed.records))

        def keep(commit: str) -> None:
            results.keep_records(repo, options, treefile, commit, records_of(tree, programs, inputs), reporter)
            # the tree contains the version
            if facts.digest and version == installed_version:
                keep_sources_of_root(repo, rootfs, loaded, options, commit, facts, parent, work, reporter)

        committed = write_commit(
            tree, store, repo, options, treefile, facts, parent, reporter, confirm=confirm, keep=keep
        )
        dropped = [(each.path, each.reason) for each in processed.dropped]
        dropped += [(path, "device") for path in root.devices]
        result = ComposeResult(
            outcome=Outcome.COMMITTED,
            packages=(),
            package_count=len(facts.packages),
            repo=repo.path,
            preview=False,
            ref=treefile.ref,
            ref_moved=treefile.ref is not None and not options.write_commitid_to,
            commit=committed.checksum,
            version=version,
            pkgdiff=results.package_diff(repo, parent, facts.packages),
            tree=tree,
            labels=labels,
            dropped=tuple(sorted(dropped)),
        )
        results.write_results(options, result, committed, facts.digest, facts.epoch)
        return result


def _rename(fresh: str, rootfs: str) -> None:
    if os.path.lexists(rootfs):
        # made meanwhile
        raise UsageError(f"{rootfs} exists already", hint="remove it, or give another directory")
    with fs.storage_errors(rootfs):
        os.rename(fresh, rootfs)


def _with_plain_etc(tree: Tree) -> Tree:
    editor = tree.edit()
    editor.remove("etc")
    editor.move("usr/etc", "etc")
    return editor.build()


def _read(
    rootfs: str, recorded: Records | None, store: BlobStore, reporter: Reporter, jobs: int, ignore_devices: bool
) -> Root:
    """Read a root directory; files unchanged since `install` get their recorded writers."""
    writer = _FOREIGN if recorded is None else _CHANGED
    found = read_rootfs(rootfs, store, reporter, writer=writer, jobs=jobs, ignore_devices=ignore_devices)
    return found if recorded is None else dataclasses.replace(found, tree=attributed(found.tree, recorded))


def report_devices(root: Root, reporter: Reporter) -> None:
    """Report device nodes and whiteouts in the root, which a commit cannot hold as they are."""
    if root.devices:
        reporter.info(f"devices cannot be committed and are left out: {_counted(root.devices)}")
    if root.whiteouts:
        reporter.info(
            f"whiteouts are kept as .ostree-wh.NAME, from which deployments recreate them: {_counted(root.whiteouts)}"
        )


def _counted(paths: tuple[str, ...]) -> str:
    return f"{len(paths)} ({few([f'/{path}' for path in paths])})"


def _inputs(
    facts: Facts, tree: Tree, recorded: Records | None, loaded: LoadedTreefile | None, *, labelled: bool
) -> tuple[Input, ...]:
    """The inputs from which a compose of the treefile would make this tree; () when it would make another one, because the
    root was changed after `install` or the treefile differs from the one it was installed with."""
    if recorded is None or loaded is None or not facts.digest or facts.tree != tree_digest(tree):
        return ()
    contents = {each for each in recorded.inputs if each.kind in (InputKind.PACKAGE, InputKind.LAYER)}
    now = {*inputs_of(loaded, (), labelled=labelled)}
    if not all(each.is_of_commit_alone for each in now ^ ({*recorded.inputs} - contents)):
        return ()
    return tuple(sorted(now | contents))


def _new_facts(options: ComposeOptions, treefile: Treefile, previous: Previous) -> Facts:
    """Facts for a root made by other tools: its time is SOURCE_DATE_EPOCH or now, but not before the previous commit."""
    when = options.source_date_epoch if options.source_date_epoch is not None else int(time.time())
    epoch = max(when, previous.timestamp)
    return Facts(packages=(), epoch=epoch, version=settings.version(options, treefile, previous, epoch))


def _packages_in(tree: Tree, store: BlobStore, work: str, reporter: Reporter) -> tuple[Nevra, ...]:
    """The packages in the tree's rpm database; none without one."""
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


def _layout(loaded: LoadedTreefile | None, facts: Facts | None, epoch: int) -> PostprocessOptions:
    if loaded is None:
        return PostprocessOptions(treefile_json=None, selinux=False, time=epoch)
    version = facts.version if facts else None
    return settings.postprocess_options(loaded, loaded.treefile.selinux, version, epoch)
