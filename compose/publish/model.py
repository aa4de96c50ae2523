"""What is asked of a publication, and what it did."""

from __future__ import annotations

from dataclasses import dataclass

from compose.ostree.prune import Doomed, Retention
from compose.ostree.signers import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """name: of the ref that clients pull. revision: of the repository that has the commit."""

    name: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """source, target: paths of the repositories, which may be one. signers: of commits and summary. depth: commits before
    each that are copied too, -1 for all there are. retention: of the refs that are published, None when nothing is pruned.
    allow_downgrade: to a commit that is older than that which clients have. dry_run: say what would be done."""

    source: str
    target: str
    requests: tuple[Request, ...]
    signers: tuple[Signer, ...] = ()
    depth: int = 0
    retention: Retention | None = None
    allow_downgrade: bool = False
    dry_run: bool = False
    jobs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Of a ref. before: commit that it was at, None where it is new. version: that the commit says to be, "" for none."""

    name: str
    before: str | None
    commit: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Objects that were not there. metadata: dirtrees and dirmetas. size: bytes of the files, as they lie where they were
    copied from."""

    commits: int
    metadata: int
    files: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """signatures: of each commit and of the summary. pruned: None when nothing was to be."""

    moves: tuple[Move, ...]
    copied: Copied
    signatures: int
    pruned: Doomed | None
