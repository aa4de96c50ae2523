"""Options and result of a publication."""

from __future__ import annotations

from dataclasses import dataclass

from compose.ostree.delta.write import WrittenDelta
from compose.ostree.prune import Doomed, Retention
from compose.ostree.signers import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One ref to publish. name: of the ref that clients pull. revision: ref or commit in the source repository."""

    name: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """What to publish, and how.

    source, target: paths of the repositories, which may be the same. signers: sign each commit and the summary. depth: number
    of ancestors to copy with each commit, -1 for all. deltas: number of earlier commits of each ref to make static deltas from.
    retention: for the published refs; None to prune nothing. allow_downgrade: allow a commit older than the published one.
    dry_run: report what would be done, and change nothing.
    """

    source: str
    target: str
    requests: tuple[Request, ...]
    signers: tuple[Signer, ...] = ()
    depth: int = 0
    deltas: int = 0
    retention: Retention | None = None
    allow_downgrade: bool = False
    dry_run: bool = False
    jobs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A ref and its new commit. before: its old commit, None for a new ref. version: of the new commit, "" for none."""

    name: str
    before: str | None
    commit: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Numbers of objects that the target lacked.

    metadata: dirtrees and dirmetas. size: bytes of the content objects, as stored in the source.
    """

    commits: int
    metadata: int
    files: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedDelta:
    """A static delta between two commits. written: None for a dry run."""

    source: str
    target: str
    written: WrittenDelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication did.

    deltas: static deltas made, without those that existed. signatures: their number, on commits and summary. pruned: None if
    pruning was not requested.
    """

    moves: tuple[Move, ...]
    copied: Copied
    deltas: tuple[PublishedDelta, ...]
    signatures: int
    pruned: Doomed | None
