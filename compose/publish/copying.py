"""Find and copy the objects that the target repository lacks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.copying import ContentObject
from compose.ostree.objects import Commit
from compose.ostree.presence import Presence
from compose.ostree.reachable import Objects, history, reader
from compose.ostree.repo import Repo
from compose.ostree.signers import Signer
from compose.ostree.transaction import Transaction
from compose.publish.model import Copied


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Objects to copy.

    commits: to copy and sign, ancestors first; includes tips the target already has. metadata: (checksum, "dirtree" or
    "dirmeta"). contents: largest first. new_commits: how many of the commits the target lacks.
    """

    commits: tuple[str, ...]
    metadata: tuple[tuple[str, str], ...]
    contents: tuple[ContentObject, ...]
    new_commits: int

    @property
    def copied(self) -> Copied:
        return Copied(
            commits=self.new_commits,
            metadata=len(self.metadata),
            files=len(self.contents),
            size=sum(each.size for each in self.contents),
        )


def find_missing(source: Repo, target: Repo, tips: Sequence[str], depth: int) -> Missing:
    """Find what the target lacks of the tips and their ancestors. The caller holds the locks of both repositories.

    depth: number of ancestors of each tip to include, -1 for all; a partial ancestor ends its history.
    Raises RepositoryError if a tip is partial, or a commit or directory object is missing or damaged.
    """
    commits: dict[str, Commit] = {}
    for tip in tips:
        if source.is_partial(tip):
            raise RepositoryError(
                f"{source.path}: the commit {tip} is partial",
                hint=f"pull it again in full, or list what is missing: ostree --repo={source.path} fsck",
            )
        for checksum, commit, behind in history(tip, reader(source)):
            if source.is_partial(checksum) or 0 <= depth < behind:
                break
            commits[checksum] = commit
    new = {each for each in commits if not target.has(each, "commit") or target.is_partial(each)}
    wanted = tuple(each for each in reversed(commits) if each in new or each in tips)
    objects = Objects()
    # tips already in the target too: objects that it has lost are copied again
    for checksum in wanted:
        objects.add(source, checksum, commits[checksum])
    return Missing(
        commits=wanted,
        metadata=(
            *_absent(target, objects.dirmetas, "dirmeta"),
            *_absent(target, objects.dirtrees, "dirtree"),
        ),
        contents=_absent_contents(source, target, objects.contents),
        new_commits=len(new),
    )


def _absent(target: Repo, checksums: set[bytes], extension: str) -> list[tuple[str, str]]:
    names = sorted(each.hex() for each in checksums)
    return [(name, extension) for name in names if not target.has(name, extension)]


def _absent_contents(source: Repo, target: Repo, checksums: set[bytes]) -> tuple[ContentObject, ...]:
    there = Presence(os.path.join(target.path, "objects")).content(
        checksums, f".{target.config.mode.content_extension}"
    )
    extension = source.config.mode.content_extension
    found = [
        ContentObject(checksum=name, size=source.size_of(name, extension))
        for name in sorted(each.hex() for each in checksums - there)
    ]
    # largest first, so that no core is left alone with a large one at the end
    return tuple(sorted(found, key=lambda each: -each.size))


def copy_missing(
    source: Repo, target: Repo, missing: Missing, signers: Sequence[Signer], jobs: int, reporter: Reporter
) -> None:
    """Copy the objects and sign the commits, or leave the target unchanged and raise what Transaction and Signer raise."""
    with (
        reporter.task("Copying objects", total=missing.copied.size, unit="bytes") as task,
        Transaction(target, jobs=jobs, reporter=reporter) as transaction,
    ):
        for checksum, extension in missing.metadata:
            transaction.copy_metadata(source.read_metadata(checksum, extension), extension)
        transaction.copy_contents(source, missing.contents, lambda _objects, size: task.advance(size))
        for checksum in missing.commits:
            data = source.read_metadata(checksum, "commit")
            transaction.copy_commit(data, detached=source.read_detached(checksum), signers=signers)
