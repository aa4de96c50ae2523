"""The postprocessing stage: pure layout, programs, pure finish, finalize.d.

`postprocess()` does all of it. `apply_treefile()` and `complete()` are its two halves, for users who examine the root in
between; together they give the same tree.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from compose.blobs import BlobStore
from compose.events import Reporter, Task
from compose.postprocess import etc, initramfs, kernel, programs, volatile
from compose.postprocess.finalize import finalize
from compose.postprocess.finish import finish, is_finished, settle_again
from compose.postprocess.layout import lay_out
from compose.postprocess.losses import losses
from compose.postprocess.options import Dropped, Postprocessed, PostprocessOptions
from compose.process import Program, ProgramRecord
from compose.tree import Tree
from compose.workroot.memory import ProgramMemory
from compose.workroot.workroot import Workroot

_ETC_LINK = "usr/etc"


def postprocess(
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    *,
    memory: ProgramMemory | None = None,
) -> Postprocessed:
    """Give the assembled tree the OSTree layout, and run the programs of the compose in it.

    workdir: an existing directory for workroots, which are removed afterwards. Raises PostprocessError if the tree cannot have
    the layout, ScriptError if a program fails, and what a Workroot raises.
    """
    work = _Work(options=options, store=store, workdir=workdir, reporter=reporter, memory=memory)
    after, kver, dropped = lay_out(tree, options, store, reporter)
    after, records = _run_programs(after, kver, work, last=True)
    return _finish(tree, after, kver, work, records, dropped)


def apply_treefile(
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    *,
    memory: ProgramMemory | None = None,
) -> Postprocessed:
    """Apply the treefile's files, units and scripts to the assembled tree, and move /etc to /usr/etc.

    Raises what postprocess() raises.
    """
    work = _Work(options=options, store=store, workdir=workdir, reporter=reporter, memory=memory)
    after, kver, dropped = lay_out(tree, options, store, reporter)
    after, records = _run_programs(after, kver, work, last=False)
    # now, because the writers of files are unknown once the root is read back from a directory
    after, volatiles = volatile.settle(after, store)
    after = etc.move(after)
    all_dropped = _all_dropped(tree, after, {*dropped, *volatiles}, records, options)
    return Postprocessed(tree=after, records=records, kernel=kver, dropped=all_dropped)


def complete(
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    *,
    memory: ProgramMemory | None = None,
) -> Postprocessed:
    """Do what any tree needs to become a commit: kernel, initramfs, accounts, /var, and /etc if it is not moved yet.

    A finished tree is returned unchanged, unless it is a plain root with its /etc in place, as container images have it.
    Raises what postprocess() raises.
    """
    if is_finished(tree):
        finished = etc.move(tree) if tree.children("etc") else tree
        return Postprocessed(tree=finished, records=(), kernel=kernel.version_of(tree), dropped=())
    options = options.without_treefile_steps()
    work = _Work(options=options, store=store, workdir=workdir, reporter=reporter, memory=memory)
    before = etc.restore(tree)
    after, kver, dropped = lay_out(before, options, store, reporter)
    after, records = _run_programs(after, kver, work, last=True)
    return _finish(before, after, kver, work, records, dropped)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """The arguments of the stage that all of its parts need."""

    options: PostprocessOptions
    store: BlobStore
    workdir: str
    reporter: Reporter
    memory: ProgramMemory | None


def _finish(
    before: Tree,
    tree: Tree,
    kver: str | None,
    work: _Work,
    records: tuple[ProgramRecord, ...],
    dropped: tuple[Dropped, ...],
) -> Postprocessed:
    """The part of postprocess() and complete() that follows the programs."""
    options, store = work.options, work.store
    tree, dropped_by_finish = finish(tree, options, store, kver)
    tree, finalize_records = finalize(tree, options, store, work.workdir, work.reporter, work.memory)
    records, reported = (*records, *finalize_records), {*dropped, *dropped_by_finish}
    if finalize_records:
        tree, dropped_after = settle_again(tree, options, store)
        reported.update(dropped_after)
    all_dropped = _all_dropped(before, tree, reported, records, options)
    return Postprocessed(tree=tree, records=records, kernel=kver, dropped=all_dropped)


def _all_dropped(
    before: Tree,
    after: Tree,
    reported: set[Dropped],
    records: tuple[ProgramRecord, ...],
    options: PostprocessOptions,
) -> tuple[Dropped, ...]:
    return tuple(sorted({*reported, *losses(before, after, reported, records, options.remove_files)}))


def _run_programs(tree: Tree, kver: str | None, work: _Work, *, last: bool) -> tuple[Tree, tuple[ProgramRecord, ...]]:
    """Run the treefile's scripts and, if `last`, the programs whose results depend on all before: semodule, depmod, dracut."""
    options, reporter = work.options, work.reporter
    scripts = list(programs.treefile_scripts(options))
    builds = list(programs.policy_builds(tree)) if options.selinux and last else []
    # now, so that a missing dracut is an error before the treefile's scripts have run for minutes
    dracut = []
    if last and kver is not None and not options.no_initramfs:
        dracut = [initramfs.dracut(tree, kver, options.initramfs_args, options.time)]
    indexed = kver is None or kernel.is_indexed(tree, work.store, kver) or not last
    if not (scripts or builds or dracut) and indexed:
        return tree, ()
    if scripts:
        tree = _with_etc_link(tree)
    directory = os.path.join(work.workdir, "postprocess")
    with (
        Workroot(
            tree,
            work.store,
            directory,
            reporter=reporter,
            epoch=options.time,
            memory=work.memory,
            foreign=options.foreign,
        ) as root,
        reporter.task("Running programs of the compose") as task,
    ):
        root.apply(tree)
        _run(root, scripts, task, reporter)
        # now, because dracut puts files that it finds in /usr/etc into the initramfs
        if (link := root.get(_ETC_LINK)) is not None and link.is_symlink:
            root.apply(_without_etc_link(tree))
        _run(root, builds, task, reporter)
        if kver is not None:
            changed = (path for record in root.records for path in record.changed)
            if not indexed or any(kernel.is_module(path, kver) for path in changed):
                _run(root, [programs.module_index(kver)], task, reporter)
        _run(root, dracut, task, reporter)
        return root.absorb(), root.records


def _with_etc_link(tree: Tree) -> Tree:
    """The tree with /usr/etc as a link to /etc: as in rpm-ostree, scripts may name configuration by either path."""
    if _ETC_LINK in tree:
        return tree
    editor = tree.edit()
    editor.add_symlink(_ETC_LINK, "../etc", writer="step:etc")
    return editor.build()


def _without_etc_link(tree: Tree) -> Tree:
    editor = tree.edit()
    editor.remove(_ETC_LINK)
    return editor.build()


def _run(root: Workroot, commands: list[Program], task: Task, reporter: Reporter) -> None:
    for program in commands:
        task.advance(0, detail=program.phase)
        programs.check(root.run(program), reporter)
        task.advance()
