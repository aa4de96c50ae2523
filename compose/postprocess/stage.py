"""The stage: pure layout, programs, pure finish."""

from __future__ import annotations

import os

from compose.blobs import BlobStore
from compose.events import Reporter
from compose.postprocess import initramfs, invariants, programs
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
    # what cannot work is said before the treefile's scripts have run for minutes
    image = _image_programs(tree, options, kver)
    tree, records = _run(tree, [*programs.treefile_scripts(options), *image], options, store, workdir, reporter)
    tree, later, warnings = finish(tree, options, store, kver)
    warnings = (*warnings, *invariants.check(tree, options, store))
    for warning in warnings:
        reporter.warn(warning)
    gone = tuple(sorted({*dropped, *later}))
    return Postprocessed(tree=tree, records=records, kernel=kver, dropped=gone, warnings=warnings)


def _image_programs(tree: Tree, options: PostprocessOptions, kver: str | None) -> list[Program]:
    found: list[Program] = []
    if options.selinux:
        found.extend(programs.policy_rebuild(tree))
    if kver is not None:
        found.extend(programs.module_index(tree, kver))
        if not options.no_initramfs:
            found.append(initramfs.dracut(tree, kver, options.initramfs_args))
    return found


def _run(
    tree: Tree,
    to_run: list[Program],
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
) -> tuple[Tree, tuple[ProgramRecord, ...]]:
    if not to_run:
        return tree, ()
    directory = os.path.join(workdir, "postprocess")
    with (
        Workroot(tree, store, directory, reporter=reporter, epoch=options.time) as root,
        reporter.task("Running programs of the compose", total=len(to_run)) as task,
    ):
        root.apply(tree)
        for program in to_run:
            task.advance(0, detail=program.phase)
            programs.check(root.run(program))
            task.advance()
        return root.absorb(), root.records
