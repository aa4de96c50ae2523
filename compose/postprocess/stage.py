"""The stage: pure layout, programs, pure finish, the author's last word.

`postprocess()` does all of it. `apply_treefile()` and `complete()` are its two halves, for those who look at the root in
between; one after the other they give the same tree.
"""

from __future__ import annotations

import os

from compose.blobs import BlobStore
from compose.events import Reporter, Task
from compose.postprocess import initramfs, kernel, programs, volatile
from compose.postprocess.finalize import finalize
from compose.postprocess.finish import finish, is_finished, move_etc, restore_etc, settle_again
from compose.postprocess.layout import lay_out
from compose.postprocess.losses import losses
from compose.postprocess.options import Dropped, Postprocessed, PostprocessOptions
from compose.process import Program, ProgramRecord
from compose.tree import Tree
from compose.workroot.memory import ProgramMemory
from compose.workroot.workroot import Workroot


def postprocess(
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    *,
    memory: ProgramMemory | None = None,
) -> Postprocessed:
    """Give the assembled tree the OSTree layout, and run the compose's own programs in it.

    workdir: an existing directory for the workroot, which is gone again afterwards. Raises PostprocessError when the tree
    cannot have the layout, ScriptError when a program fails, and what a Workroot raises.
    """
    before = tree
    tree, kver, dropped = lay_out(tree, options, store, reporter)
    scripts = list(programs.treefile_scripts(options))
    tree, records = _run_programs(tree, options, store, workdir, reporter, kver, memory, scripts=scripts, last=True)
    return _finished(before, tree, options, store, workdir, reporter, kver, memory, records, dropped)


def apply_treefile(
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    *,
    memory: ProgramMemory | None = None,
) -> Postprocessed:
    """What the treefile's author asks for, on the assembled tree: files, units, scripts. /etc becomes /usr/etc.

    Raises as postprocess() does.
    """
    before = tree
    tree, kver, dropped = lay_out(tree, options, store, reporter)
    scripts = list(programs.treefile_scripts(options))
    tree, records = _run_programs(tree, options, store, workdir, reporter, kver, memory, scripts=scripts, last=False)
    # now: of a root that is read back from a directory nobody knows who wrote what
    tree, volatiles = volatile.settle(tree, store)
    told = {*dropped, *volatiles}
    gone = tuple(sorted({*told, *losses(before, tree, told, records, options.remove_files)}))
    return Postprocessed(tree=move_etc(tree), records=records, kernel=kver, dropped=gone)


def complete(
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    *,
    memory: ProgramMemory | None = None,
) -> Postprocessed:
    """What every tree needs to be a commit, whoever made it: kernel, initramfs, accounts, /var, /etc or /usr/etc.

    A tree that is complete already stays as it is. Raises as postprocess() does.
    """
    if is_finished(tree):
        return Postprocessed(tree=tree, records=(), kernel=kernel.version_of(tree), dropped=())
    options = options.without_treefile_steps()
    before = restore_etc(tree)
    tree, kver, dropped = lay_out(before, options, store, reporter)
    tree, records = _run_programs(tree, options, store, workdir, reporter, kver, memory, scripts=[], last=True)
    return _finished(before, tree, options, store, workdir, reporter, kver, memory, records, dropped)


def _finished(
    before: Tree,
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    kver: str | None,
    memory: ProgramMemory | None,
    records: tuple[ProgramRecord, ...],
    dropped: tuple[Dropped, ...],
) -> Postprocessed:
    tree, later = finish(tree, options, store, kver)
    tree, last = finalize(tree, options, store, workdir, reporter, memory)
    records, told = (*records, *last), {*dropped, *later}
    if last:
        tree, leavings = settle_again(tree, options, store)
        told.update(leavings)
    gone = tuple(sorted({*told, *losses(before, tree, told, records, options.remove_files)}))
    return Postprocessed(tree=tree, records=records, kernel=kver, dropped=gone)


def _run_programs(
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    kver: str | None,
    memory: ProgramMemory | None,
    *,
    scripts: list[Program],
    last: bool,
) -> tuple[Tree, tuple[ProgramRecord, ...]]:
    """The treefile's scripts; then, when nobody comes between, the programs whose results depend on all before."""
    builds = list(programs.policy_builds(tree)) if options.selinux and last else []
    # what cannot work is said before the treefile's scripts have run for minutes
    boots = kver is not None and not options.no_initramfs and last
    dracut = [initramfs.dracut(tree, kver, options.initramfs_args, options.time)] if boots and kver is not None else []
    indexed = kver is None or kernel.is_indexed(tree, store, kver) or not last
    if not (scripts or builds or dracut) and indexed:
        return tree, ()
    directory = os.path.join(workdir, "postprocess")
    with (
        Workroot(tree, store, directory, reporter=reporter, epoch=options.time, memory=memory) as root,
        reporter.task("Running programs of the compose") as task,
    ):
        root.apply(tree)
        _run(root, [*scripts, *builds], task)
        if kver is not None:
            changed = (path for record in root.records for path in record.changed)
            if not indexed or any(kernel.is_module(path, kver) for path in changed):
                _run(root, [programs.module_index(kver)], task)
        _run(root, dracut, task)
        return root.absorb(), root.records


def _run(root: Workroot, wanted: list[Program], task: Task) -> None:
    for program in wanted:
        task.advance(0, detail=program.phase)
        programs.check(root.run(program))
        task.advance()
