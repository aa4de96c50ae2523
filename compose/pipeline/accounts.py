"""Locked ids in a compose: applying them to the assembled tree, and writing accepted new ones."""

from __future__ import annotations

from compose import fs
from compose.assemble.ids import IdLock, Pinned, pin_ids
from compose.blobs import BlobStore
from compose.events import Reporter
from compose.lock.ids import format_ids, parse_ids
from compose.tree import Tree
from compose.treefile.model import Treefile


def read_id_lock(treefile: Treefile) -> IdLock | None:
    """The ids of the treefile's id-lock. Raises TreefileError."""
    return None if treefile.id_lock is None else parse_ids(treefile.id_lock.data, treefile.id_lock.path)


def pinned(tree: Tree, store: BlobStore, lock: IdLock | None, *, accept_new: bool) -> Pinned | None:
    """The tree with locked ids; None without a lock. Raises PolicyError."""
    return None if lock is None else pin_ids(tree, store, lock, accept_new=accept_new)


def keep_new(ids: Pinned | None, reporter: Reporter) -> bool:
    """Write new ids to the lock file; False when there are none.

    This comes before the commit: an id that is locked but unused is harmless, one that is used but not locked is not.
    """
    if ids is None or not ids.new:
        return False
    fs.atomic_write(ids.lock.path, format_ids(ids.lock).encode())
    reporter.info(f"{ids.lock.path}: {len(ids.new)} new ids: {', '.join(ids.new)}")
    return True
