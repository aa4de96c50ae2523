"""A directory on disk as a tree, the way a live root looks at what programs left."""

from __future__ import annotations

from compose.blobs import BlobStore
from compose.events import Reporter
from compose.tree import Tree
from compose.workroot.layer import Layer
from compose.workroot.merge import apply_changes, lost


def scan(directory: str, store: BlobStore, *, writer: str, reporter: Reporter) -> Tree:
    """Everything below a directory; warns of what a tree cannot hold."""
    layer = Layer(directory=directory, lower="")
    stamps = layer.stamps()
    changes = list(layer.changes(sorted(stamps), {}, stamps, store, writer=writer))
    for line in lost(changes, writer):
        reporter.warn(line)
    editor = Tree.empty().edit()
    apply_changes(editor, changes, writer=writer, applied=True)
    return editor.build()
