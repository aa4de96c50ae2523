"""The lock file of ids in a compose: reading it, and writing accepted new ones."""

from __future__ import annotations

from compose import fs
from compose.assemble.ids import IdLock, Pinned
from compose.events import Reporter
from compose.lock.ids import format_ids, parse_ids
from compose.treefile.model import Treefile


def read_id_lock(treefile: Treefile) -> IdLock | None:
    """The ids of the treefile's id-lock. Raises TreefileError."""
    return None if treefile.id_lock is None else parse_ids(treefile.id_lock.data, treefile.id_lock.path)


def keep_new(ids: Pinned | None, reporter: Reporter) -> bool:
    """Write new ids to the lock file; False when there are none.

    This comes before the commit: an id that is locked but unused is harmless, one that is used but not locked is not.
    """
    if ids is None or not ids.new:
        return False
    fs.atomic_write(ids.lock.path, format_ids(ids.lock).encode())
    reporter.info(f"{ids.lock.path}: {len(ids.new)} new ids: {', '.join(ids.new)}")
    return True
