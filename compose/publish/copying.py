"""What a repository lacks of the commits that it is to have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.copying import ContentObject
from compose.ostree.presence import Presence
from compose.ostree.reachable import Objects, history, reader
from compose.ostree.repo import Repo
from compose.ostree.signers import Signer
from compose.ostree.transaction import Transaction
from compose.publish.model import Copied


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """commits: to be written, or signed, the first ones first. metadata: (checksum, "dirtree" or "dirmeta"). contents: large
    ones first."""

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
    """depth: commits before each tip that are wanted too, -1 for all that source has whole. The locks of both are held.

    Raises RepositoryError when a tip is there in part only, or something of it is missing or damaged.
    """
    commits: dict[str, None] = {}
    for tip in tips:
        if source.is_partial(tip):
            raise RepositoryError(
                f"{source.path}: the commit {tip} is there in part only",
                hint=f"pull it again, whole, or see what is missing: ostree --repo={source.path} fsck",
            )
        for checksum, _, behind in history(tip, reader(source)):
            if source.is_partial(checksum) or 0 <= depth < behind:
                break
            commits[checksum] = None
    new = [each for each in commits if not target.has(each, "commit") or target.is_partial(each)]
    wanted = tuple(each for each in reversed(commits) if each in new or each in tips)
    objects = Objects()
    # also of tips that are there: what has come away is mended
    for checksum in wanted:
        objects.add(source, checksum)
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
    # no core shall be left alone with a large one at the end
    return tuple(sorted(found, key=lambda each: -each.size))


def copy_missing(
    source: Repo, target: Repo, missing: Missing, signers: Sequence[Signer], jobs: int, reporter: Reporter
) -> None:
    """Copy them, sign the commits. Raises what Transaction and Signer raise; then the target is as it was."""
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
