"""The commit that a compose follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compose import metadata
from compose.errors import RepositoryError, UsageError
from compose.ostree.objects import COLLECTION_BINDING, COMPOSEFS_DIGEST
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions

if TYPE_CHECKING:
    from compose.solve.advisories import Advisory

Accounts = Mapping[str, bytes]
"""passwd, group, shadow and gshadow, each with what /usr/etc and /usr/lib of a commit have of it, one after the other; empty
without a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The commit that this compose follows: what it is compared with, and what ids and version come from.

    timestamp: seconds since 1970, 0 when there is none. present: is the commit there, and whole? measured: False for one that
    is there and has no composefs digest. collection: that it is bound to.
    """

    checksum: str | None = None
    timestamp: int = 0
    inputhash: str | None = None
    version: str | None = None
    present: bool = False
    measured: bool = True
    collection: str | None = None

    @classmethod
    def of(cls, repo: Repo, options: ComposeOptions, ref: str | None) -> Previous:
        revision = options.previous_commit or ref
        checksum = repo.resolve(revision) if revision else None
        if options.previous_commit and (checksum is None or not repo.has(checksum, "commit")):
            raise RepositoryError(f"{repo.path} has no commit {options.previous_commit}", hint="see: ostree refs")
        commit = None
        if checksum is not None and repo.has(checksum, "commit"):
            commit = repo.read_commit(checksum, (metadata.INPUTHASH, "version", COMPOSEFS_DIGEST, COLLECTION_BINDING))
        known = commit.get(metadata.INPUTHASH) if commit else None
        version = commit.get("version") if commit else None
        collection = commit.get(COLLECTION_BINDING) if commit else None
        return cls(
            checksum=checksum,
            timestamp=max(commit.timestamp if commit else 0, options.previous_timestamp),
            inputhash=options.previous_inputhash or (known if isinstance(known, str) else None),
            version=options.previous_version or (version if isinstance(version, str) else None),
            present=commit is not None and checksum is not None and not repo.is_partial(checksum),
            measured=commit is None or commit.get(COMPOSEFS_DIGEST) is not None,
            collection=collection if isinstance(collection, str) else None,
        )

    def read_accounts(self, repo: Repo) -> Accounts:
        """Raises RepositoryError when something of the commit is missing or damaged."""
        if self.checksum is None or not self.present:
            return {}
        commit = repo.read_commit(self.checksum, ())
        places = [tree for place in ("etc", "lib") if (tree := repo.read_directory(commit, f"usr/{place}")) is not None]
        return {
            name: b"".join(repo.read_file_in(tree, name) or b"" for tree in places)
            for name in ("passwd", "group", "shadow", "gshadow")
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a compose takes from a record instead of looking for it.

    accounts: of the commit before; None to look for that commit all the same. advisories: of the locked packages.
    lockfile_repos: do the treefile's lockfile-repos take part? layers: checksums of the commits that were laid over, by ref.
    directory: where the record was unpacked, which nobody will find later; "" without one.
    """

    accounts: Accounts | None = None
    advisories: tuple[Advisory, ...] = ()
    lockfile_repos: bool = False
    layers: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""


def parent_of(options: ComposeOptions, repo: Repo, ref: str | None) -> str | None:
    """Checksum of the parent of a new commit: --parent, else what the ref is now. Raises UsageError."""
    if options.no_parent:
        return None
    if options.parent is not None:
        checksum = repo.resolve(options.parent)
        if checksum is None:
            raise UsageError(f"--parent={options.parent}: {repo.path} has no such ref")
        return checksum
    return repo.resolve(ref) if ref else None
