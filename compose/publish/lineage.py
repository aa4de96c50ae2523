"""Remember which commit each published commit replaced.

Parents do not tell: a compose in a fresh repository has none, and commits between two published ones are not published. Without
this, pruning would take what was published before for unrelated, and remove it.

    extensions/compose/published/COMMIT     lines "BEFORE REF": under REF, COMMIT replaced BEFORE; the last is the latest
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial

from compose import fs
from compose.ostree import refs
from compose.ostree.repo import Repo
from compose.publish.model import Move

_DIRECTORY = "extensions/compose/published"
_LARGEST = 1 << 20
"""Bytes of a record that are read; it has about 100 for each ref."""


def remember(target: Repo, moves: Sequence[Move]) -> None:
    """Record what the commits of these moves replace, before the refs move. Raises StorageError."""
    moved = [move for move in moves if move.before is not None and move.before != move.commit]
    if not moved:
        return
    directory = os.path.join(target.path, _DIRECTORY)
    with fs.obstacles(directory), fs.storage_errors(directory):
        os.makedirs(directory, exist_ok=True)
    for move in moved:
        row = str(move.before), move.name
        # A commit may be published again, after a later one: what it replaced the first time still leads to all before.
        rows = [*(each for each in _read(target, move.commit) if each != row), row]
        text = "".join(f"{before} {name}\n" for before, name in rows)
        with fs.obstacles(os.path.join(directory, move.commit)):
            refs.replace_file(target.fd, f"{_DIRECTORY}/{move.commit}", text.encode(), fsync=target.config.fsync)


def predecessors(target: Repo, moves: Sequence[Move] = ()) -> Callable[[str, str], Sequence[str]]:
    """Return a function that gives the commits that another one replaced under a ref, the last one first; none if that is not
    known. Its arguments: name of the ref, commit. moves: as if they had been recorded."""
    coming = {(move.name, move.commit): move.before for move in moves if move.before != move.commit}
    read = cache(partial(_read, target))

    def before(name: str, commit: str) -> Sequence[str]:
        found = [each for each, under in reversed(read(commit)) if under == name]
        last = coming.get((name, commit))
        return found if last is None else [last, *found]

    return before


def forget_gone(target: Repo) -> None:
    """Remove what is recorded of deleted commits. Raises StorageError."""
    directory = os.path.join(target.path, _DIRECTORY)
    with fs.storage_errors(directory), suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(directory):
            if refs.is_checksum(name) and not target.has(name, "commit"):
                # what is a directory is none of ours
                with suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(os.path.join(directory, name))


def _read(target: Repo, commit: str) -> tuple[tuple[str, str], ...]:
    """The rows of a commit: what it replaced, under which ref. What is damaged is taken for unknown: it only ends a history
    early."""
    try:
        with fs.open_regular(f"{_DIRECTORY}/{commit}", dir_fd=target.fd) as file:
            data = file.read(_LARGEST)
        rows = [line.partition(" ") for line in data.decode().split("\n")]
    except (OSError, ValueError):
        return ()
    return tuple((before, name) for before, _, name in rows if name and refs.is_checksum(before))
