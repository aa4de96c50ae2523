"""The stage: pure layout, programs, pure finish."""

from __future__ import annotations

import os

from compose.blobs import BlobStore
from compose.events import Reporter, Task
from compose.postprocess import initramfs, invariants, kernel, programs
from compose.postprocess.finish import finish
from compose.postprocess.layout import lay_out
from compose.postprocess.options import Postprocessed, PostprocessOptions
from compose.process import Program, ProgramRecord
from compose.tree import Tree
from compose.workroot.workroot import Workroot


def postprocess(
    tree: Tree, options: PostprocessOptions, store: BlobStore, workdir: str, reporter: Reporter
) -> Postprocessed:
    """Give the assembled tree the OSTree layout, and run the compose's own programs in it.

    workdir: an existing directory for the workroot, which is gone again afterwards. Raises PostprocessError when the tree
    cannot have the layout, ScriptError when a program fails, and what a Workroot raises.
    """
    tree, kver, dropped = lay_out(tree, options, store, reporter)
    tree, records = _run_programs(tree, options, store, workdir, reporter, kver)
    tree, later, warnings = finish(tree, options, store, kver)
    warnings = (*warnings, *invariants.check(tree, options, store))
    for warning in warnings:
        reporter.warn(warning)
    gone = tuple(sorted({*dropped, *later}))
    return Postprocessed(tree=tree, records=records, kernel=kver, dropped=gone, warnings=warnings)


def _run_programs(
    tree: Tree, options: PostprocessOptions, store: BlobStore, workdir: str, reporter: Reporter, kver: str | None
) -> tuple[Tree, tuple[ProgramRecord, ...]]:
    scripts = list(programs.treefile_scripts(options))
    builds = list(programs.policy_builds(tree)) if options.selinux else []
    # what cannot work is said before the treefile's scripts have run for minutes
    dracut = [] if kver is None or options.no_initramfs else [initramfs.dracut(tree, kver, options.initramfs_args)]
    indexed = kver is None or kernel.is_indexed(tree, store, kver)
    if not (scripts or builds or dracut) and indexed:
        return tree, ()
    directory = os.path.join(workdir, "postprocess")
    with (
        Workroot(tree, store, directory, reporter=reporter, epoch=options.time) as root,
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
