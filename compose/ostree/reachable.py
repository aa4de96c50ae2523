"""Which objects commits consist of, and the history of commits."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field

from compose.errors import RepositoryError
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo

_NOTHING: frozenset[str] = frozenset()


@dataclass(slots=True)
class Objects:
    """Checksums (32 bytes each) of dirtrees, dirmetas and content objects."""

    dirtrees: set[bytes] = field(default_factory=set)
    dirmetas: set[bytes] = field(default_factory=set)
    contents: set[bytes] = field(default_factory=set)

    def add(self, repo: Repo, checksum: str, commit: Commit) -> None:
        """Add the objects of a commit of the repository. Dirtrees that were added before are not read again. Raises
        RepositoryError if a dirtree is missing or damaged; such dirtrees of a partial commit are skipped."""
        self.dirmetas.add(commit.root_meta)
        pending = [commit.root_tree]
        while pending:
            directory = pending.pop()
            if directory in self.dirtrees:
                continue
            try:
                tree = repo.read_dirtree(directory)
            except RepositoryError:
                if repo.is_partial(checksum):
                    continue
                raise
            self.dirtrees.add(directory)
            self.contents.update(row[1] for row in tree.files)
            self.dirmetas.update(row[2] for row in tree.directories)
            pending += [row[1] for row in tree.directories]


def history(first: str, read: Callable[[str], Commit | None]) -> Iterator[tuple[str, Commit, int]]:
    """Yield (checksum, commit, number of commits before it in this list) of a commit and its ancestors, until one is missing.

    read: returns None for a missing commit.
    """
    checksum, depth = first, 0
    while checksum and (commit := read(checksum)) is not None:
        yield checksum, commit, depth
        checksum, depth = commit.parent.hex(), depth + 1


def past(
    tip: str,
    read: Callable[[str], Commit | None],
    before: Callable[[str], Sequence[str]],
    seen: Container[str] = (),
) -> Iterator[tuple[str, Commit]]:
    """Yield a commit and all that came before it, by parent or by replacement, without those in `seen`. Each comes once, the
    youngest of those known so far first.

    read: returns None for a missing commit, which is passed over. before: returns the commits that a commit has replaced.
    """
    known: set[str] = set()
    pending: list[tuple[int, int, str, Commit]] = []

    def add(checksum: str) -> None:
        if checksum and checksum not in known and checksum not in seen:
            known.add(checksum)
            if (commit := read(checksum)) is not None:
                heapq.heappush(pending, (-commit.timestamp, len(known), checksum, commit))

    add(tip)
    while pending:
        _, _, checksum, commit = heapq.heappop(pending)
        yield checksum, commit
        for each in (*before(checksum), commit.parent.hex()):
            add(each)


def reader(*repos: Repo) -> Callable[[str], Commit | None]:
    """Return a function for history() that reads commits, without metadata, from the first repository that has them."""

    def read(checksum: str) -> Commit | None:
        for repo in repos:
            if repo.has(checksum, "commit"):
                return repo.read_commit(checksum, _NOTHING)
        return None

    return read
