"""finalize.d: the treefile author's own programs, run on the finished tree after everything else.

They see the tree as it will be committed: defaults in /usr/etc, /var empty. rpm-ostree runs them on the host as root with the
tree as working directory; here they run inside the tree, with / as working directory.
"""

from __future__ import annotations

import os

from compose.blobs import BlobStore
from compose.events import Reporter
from compose.postprocess import programs
from compose.postprocess.options import PostprocessOptions
from compose.postprocess.rootfs import link_tmp
from compose.process import ProgramRecord
from compose.tree import Tree
from compose.workroot.memory import ProgramMemory
from compose.workroot.workroot import Workroot

_WRITER = "step:finalize"


def finalize(
    tree: Tree,
    options: PostprocessOptions,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    memory: ProgramMemory | None = None,
) -> tuple[Tree, tuple[ProgramRecord, ...]]:
    """Run the programs in order. Raises ScriptError if one fails, and what a Workroot raises."""
    if not options.finalize:
        return tree, ()
    editor = tree.edit()
    # programs need it; a commit does not have it
    editor.add_symlink("etc", "usr/etc", writer=_WRITER)
    editor.remove("tmp")
    editor.add_dir("tmp", 0o1777, writer=_WRITER)
    live = editor.build()
    with (
        Workroot(
            live,
            store,
            os.path.join(workdir, "finalize"),
            reporter=reporter,
            epoch=options.time,
            memory=memory,
            foreign=options.foreign,
        ) as root,
        reporter.task("Running finalize.d", total=len(options.finalize), unit="programs") as task,
    ):
        root.apply(live)
        for script in options.finalize:
            task.advance(0, detail=script.name)
            programs.check(root.run(programs.program_of(script)), reporter)
            task.advance()
        changed, records = root.absorb(), root.records
    editor = changed.edit()
    editor.remove("etc")
    return link_tmp(editor.build(), tmp_is_dir=options.tmp_is_dir), records
