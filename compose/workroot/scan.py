"""Reads a directory as a tree."""

from __future__ import annotations

from compose import fs
from compose.blobs import BlobStore
from compose.events import Reporter
from compose.tree import Tree
from compose.workroot.layer import Layer
from compose.workroot.merge import lost, merge


def scan(directory: str, store: BlobStore, *, writer: str, reporter: Reporter) -> Tree:
    """Read everything below a directory, adding contents to the store; labels and ACLs are left out.

    The caller must be able to read all of it and see the intended owners. Warns of what a tree cannot hold. Raises ScriptError
    for a name that is not UTF-8 and for a sparse file that does not fit on the store's disk, StorageError.
    """
    with fs.storage_errors(directory):
        changes = list(Layer(directory=directory, lower="").all(store, writer=writer))
    for line in lost(changes, writer):
        reporter.warn(line)
    return merge(Tree.empty(), changes, writer=writer, applied=True)
