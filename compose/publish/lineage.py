"""Remember which commit each published commit replaced.

Parents do not tell: a compose in a fresh repository has none, and commits between two published ones are not published. Without
this, pruning would take what was published before for unrelated, and remove it.

    extensions/compose/published/COMMIT     a line "BEFORE REF" for each ref that COMMIT was published under
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from compose import fs
from compose.ostree import refs
from compose.ostree.repo import Repo
from compose.publish.model import Move

_DIRECTORY = "extensions/compose/published"


def remember(target: Repo, moves: Sequence[Move]) -> None:
    """Record what the commits of these moves replace, before the refs move. Raises StorageError."""
    moved = [move for move in moves if move.before is not None and move.before != move.commit]
    if not moved:
        return
    directory = os.path.join(target.path, _DIRECTORY)
    with fs.storage_errors(directory):
        os.makedirs(directory, exist_ok=True)
    for move in moved:
        rows = _read(target, move.commit) | {move.name: str(move.before)}
        text = "".join(f"{before} {name}\n" for name, before in sorted(rows.items()))
        refs.replace_file(target.fd, f"{_DIRECTORY}/{move.commit}", text.encode(), fsync=target.config.fsync)


def predecessors(target: Repo, moves: Sequence[Move] = ()) -> Callable[[str, str], str | None]:
    """Return a function that gives the commit that another one replaced under a ref, or None if that is not known. Its
    arguments: name of the ref, commit. moves: as if they had been recorded."""
    coming = {(move.name, move.commit): move.before for move in moves if move.before != move.commit}

    def before(name: str, commit: str) -> str | None:
        return coming.get((name, commit)) or _read(target, commit).get(name)

    return before


def forget_gone(target: Repo) -> None:
    """Remove what is recorded of deleted commits. Raises StorageError."""
    directory = os.path.join(target.path, _DIRECTORY)
    with fs.storage_errors(directory), suppress(FileNotFoundError):
        for name in os.listdir(directory):
            if refs.is_checksum(name) and not target.has(name, "commit"):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, name))


def _read(target: Repo, commit: str) -> dict[str, str]:
    """The commit before, by ref. What is damaged is taken for unknown: it only ends a history early."""
    try:
        with open(os.path.join(target.path, _DIRECTORY, commit), encoding="utf-8") as file:
            rows = [line.rstrip("\n").partition(" ") for line in file]
    except (OSError, ValueError):
        return {}
    return {name: before for before, _, name in rows if name and refs.is_checksum(before)}
