"""What commits hold: all objects that must be there with them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field

from compose.errors import RepositoryError
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo

_NOTHING: frozenset[str] = frozenset()


@dataclass(slots=True)
class Objects:
    """Checksums, 32 bytes each, of dirtrees, dirmetas, and content objects."""

    dirtrees: set[bytes] = field(default_factory=set)
    dirmetas: set[bytes] = field(default_factory=set)
    contents: set[bytes] = field(default_factory=set)

    def add(self, repo: Repo, commit: str) -> None:
        """What a commit holds, dirtrees that are among these already not read again. Raises RepositoryError when an object on
        the way is missing or damaged; of a commit that is there in part it is passed over."""
        root = repo.read_commit(commit, _NOTHING)
        partial = repo.is_partial(commit)
        self.dirmetas.add(root.root_meta)
        pending = [root.root_tree]
        while pending:
            checksum = pending.pop()
            if checksum in self.dirtrees:
                continue
            try:
                tree = repo.read_dirtree(checksum)
            except RepositoryError:
                if partial:
                    continue
                raise
            self.dirtrees.add(checksum)
            self.contents.update(row[1] for row in tree.files)
            self.dirmetas.update(row[2] for row in tree.directories)
            pending += [row[1] for row in tree.directories]


def history(
    first: str, read: Callable[[str], Commit | None], seen: Container[str] = ()
) -> Iterator[tuple[str, Commit, int]]:
    """A commit and those before it: (checksum, what it says, how many are behind it), until one is not there, or was seen.

    read: gives None for what is not there.
    """
    checksum, depth = first, 0
    while checksum and checksum not in seen:
        commit = read(checksum)
        if commit is None:
            return
        yield checksum, commit, depth
        checksum, depth = commit.parent.hex(), depth + 1


def reader(*repos: Repo) -> Callable[[str], Commit | None]:
    """For history(): of the first repository that has a commit, without its metadata."""

    def read(checksum: str) -> Commit | None:
        for repo in repos:
            if repo.has(checksum, "commit"):
                return repo.read_commit(checksum, _NOTHING)
        return None

    return read
