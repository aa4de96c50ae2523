"""Locked ids in a compose: applied to the assembled tree, and written when new ones are accepted."""

from __future__ import annotations

from compose import fs
from compose.assemble.ids import IdLock, Pinned, pin_ids
from compose.blobs import BlobStore
from compose.events import Reporter
from compose.lock.ids import format_ids, parse_ids
from compose.tree import Tree
from compose.treefile.model import Treefile


def read_id_lock(treefile: Treefile) -> IdLock | None:
    """The locked ids that the treefile names. Raises TreefileError."""
    return None if treefile.id_lock is None else parse_ids(treefile.id_lock.data, treefile.id_lock.path)


def pinned(tree: Tree, store: BlobStore, lock: IdLock | None, *, accept_new: bool) -> Pinned | None:
    """The tree with locked ids, None without a lock. Raises PolicyError."""
    return None if lock is None else pin_ids(tree, store, lock, accept_new=accept_new)


def keep_new(found: Pinned | None, reporter: Reporter) -> bool:
    """Write what is new into the file; False when nothing is.

    Before the tree that has these ids is committed: an id that is locked and unused harms nobody, the reverse does.
    """
    if found is None or not found.new:
        return False
    fs.atomic_write(found.lock.path, format_ids(found.lock).encode())
    reporter.info(f"{found.lock.path}: {len(found.new)} new ids: {', '.join(found.new)}")
    return True
