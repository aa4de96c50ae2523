"""The stages after the solver, on one screen: fetch -> import -> assemble -> postprocess -> label -> commit.

Only this module and run.py know all stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from compose.assemble.ids import Pinned, pin_ids
from compose.assemble.stage import assemble
from compose.cachedir import LABELS, PROGRAMS
from compose.events import Reporter
from compose.label import compare, expected, label, question
from compose.pipeline import results, settings
from compose.pipeline.accounts import keep_new, read_id_lock
from compose.pipeline.committing import check_commit, deflate_made, deflate_packages, deflating, write_commit
from compose.pipeline.contents import fetch_packages, import_files, sandbox_checked
from compose.pipeline.gate import check_labels, check_tree
from compose.pipeline.inputs import Inputs, Stopwatch, reread
from compose.pipeline.making import Sources, keep_sources, sources_of
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.pipeline.outcome import ended
from compose.pipeline.previous import Accounts, parent_of
from compose.postprocess.drift import check_accounts
from compose.postprocess.options import Dropped
from compose.postprocess.stage import apply_treefile, postprocess
from compose.process import ProgramRecord
from compose.records import records_of, runs_of
from compose.rpm.manifest import PackageManifest
from compose.tree import Tree

_DROPPED_SHOWN = 20


def make_commit(inputs: Inputs, options: ComposeOptions, watch: Stopwatch, reporter: Reporter) -> ComposeResult:
    """Run the stages as far as the options say. Raises a ComposeError; the repository is then unchanged."""
    treefile, previous, resolution = inputs.treefile, inputs.previous, inputs.resolution
    if options.dry_run:
        results.touch(options)
        return ended(inputs, options, watch, Outcome.DRY_RUN)
    check_commit(options, treefile)
    accounts = inputs.read_accounts()
    with sandbox_checked(inputs, options, reporter) as checked, watch.stage("fetch"):
        files = fetch_packages(inputs, options, reporter, checked)
    if options.download_only_rpms:
        results.touch_for_download(inputs, options)
        return ended(inputs, options, watch, Outcome.DOWNLOADED)
    with watch.stage("import"):
        manifests = import_files(inputs, files, options, reporter)
    if options.download_only:
        results.touch_for_download(inputs, options)
        return ended(inputs, options, watch, Outcome.DOWNLOADED)

    store, memo = inputs.store, inputs.cache.join(LABELS)
    with (
        inputs.cache.scratch() as work,
        deflating(inputs.repo, options, work, reporter) as ahead,
        ThreadPoolExecutor(1) as background,
    ):
        deflate_packages(ahead, manifests, store)
        sources: Future[Sources]

        def when_assembled(tree: Tree) -> None:
            # from here on a recompose leaves a core idle for a while; until here, the rpm database needs it
            nonlocal sources
            deflate_made(ahead, tree, store)
            sources = background.submit(sources_of, inputs, accounts, files, options, work, reporter)

        made = make_tree(inputs, manifests, accounts, options, work, watch, reporter, when_assembled=when_assembled)
        # frees memory for the following stages
        del manifests
        tree, labels, expected_labels = made.tree, None, None
        references = settings.account_references(options, treefile, previous, accounts)
        check_accounts(tree, store, references, reporter)
        if inputs.labelled:
            # the audit takes longer than the labelling, so it starts first
            expected_labels = background.submit(expected, question(tree, store, work), reporter)
            with watch.stage("label"):
                tree = label(tree, store, work, reporter, memo, jobs=options.jobs)

        def confirm() -> None:
            nonlocal labels
            if expected_labels is not None:
                labels = compare(tree, expected_labels.result())
                check_labels(labels, reporter)

        def keep(commit: str) -> None:
            keep_sources(inputs.repo, sources, options, commit, facts, parent, reporter)
            records = records_of(tree, runs_of(each for _, each in made.programs), inputs.parts)
            unpacked = inputs.given.directory
            results.keep_records(inputs.repo, options, treefile, commit, records, reporter, unpacked=unpacked)

        with watch.stage("lint"):
            measured = inputs.repo.config.composefs
            check_tree(tree, store, container=treefile.container, reporter=reporter, measured=measured)
        if keep_new(made.ids, reporter):
            inputs = reread(inputs, options)
            sources = background.submit(sources_of, inputs, accounts, files, options, work, reporter)
        with watch.stage("commit"):
            facts = settings.facts(inputs, made.version, made.epoch, made.kernel)
            parent = parent_of(options, inputs.repo, previous)
            committed = write_commit(
                tree, store, inputs.repo, options, treefile, facts, parent, reporter, ahead, confirm, keep
            )
        content = committed.stats.content
        inputs.cache.count("objects", asked=content.objects, found=content.known)
    programs = made.programs
    inputs.cache.count(PROGRAMS, asked=len(programs), found=sum(not each.seconds for _, each in programs))
    diff = results.package_diff(inputs.repo, parent, [each.nevra for each in resolution.packages])
    result = ended(
        inputs,
        options,
        watch,
        Outcome.COMMITTED,
        programs,
        pkgdiff=diff,
        ref_moved=treefile.ref is not None and not options.write_commitid_to,
        commit=committed.checksum,
        version=made.version,
        tree=tree,
        labels=labels,
        dropped=made.dropped,
    )
    results.write_results(options, result, committed, inputs.digest, made.epoch)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A tree without labels.

    ids: the locked ids, None without a lock. epoch, version: of the commit. kernel: its version, None for a tree that does
    not boot. programs: (stage, program). dropped: (path, reason) of files from packages that the tree does not hold.
    """

    tree: Tree
    ids: Pinned | None
    epoch: int
    version: str | None
    kernel: str | None
    programs: tuple[tuple[str, ProgramRecord], ...]
    dropped: tuple[tuple[str, str], ...]


def make_tree(
    inputs: Inputs,
    manifests: Sequence[PackageManifest],
    accounts: Accounts,
    options: ComposeOptions,
    work: str,
    watch: Stopwatch,
    reporter: Reporter,
    *,
    finish: bool = True,
    when_assembled: Callable[[Tree], None] = lambda _: None,
) -> Made:
    """Assemble and postprocess a tree.

    finish: False to run only the treefile's own postprocessing steps. when_assembled: called between the two stages. Raises a
    ComposeError.
    """
    treefile, store, memory = inputs.treefile, inputs.store, inputs.open_memory()
    id_lock = read_id_lock(treefile)
    epoch = settings.epoch(options, manifests, inputs.previous)
    version = settings.version(options, treefile, inputs.previous, epoch)
    with watch.stage("assemble"):
        assemble_options = settings.assemble_options(inputs, accounts, epoch)
        assembled = assemble(manifests, assemble_options, store, work, reporter, memory=memory)
        ids = pin_ids(assembled.tree, store, id_lock, accept_new=options.accept_new_ids) if id_lock else None
    when_assembled(assembled.tree)
    with watch.stage("postprocess"):
        layout = settings.postprocess_options(inputs.loaded, inputs.labelled, version, epoch)
        tree = ids.tree if ids else assembled.tree
        step = postprocess if finish else apply_treefile
        processed = step(tree, layout, store, work, reporter, memory=memory)
    report_dropped(processed.dropped, reporter)
    dropped = [(each.path, each.reason) for each in assembled.dropped]
    dropped += [(each.path, each.reason) for each in processed.dropped]
    return Made(
        tree=processed.tree,
        ids=ids,
        epoch=epoch,
        version=version,
        kernel=processed.kernel,
        programs=(
            *(("assemble", each) for each in assembled.records),
            *(("postprocess", each) for each in processed.records),
        ),
        dropped=tuple(sorted(dropped)),
    )


def report_dropped(dropped: tuple[Dropped, ...], reporter: Reporter) -> None:
    """Report files that the commit does not hold and that users may miss."""
    unexpected = [each for each in dropped if not each.expected]
    for each in unexpected[:_DROPPED_SHOWN]:
        reporter.info(f"not in the commit: /{each.path} ({each.reason})")
    if len(unexpected) > _DROPPED_SHOWN:
        reporter.info(f"not in the commit: {len(unexpected) - _DROPPED_SHOWN} more; --write-composejson-to lists all")
