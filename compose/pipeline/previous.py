"""The previous commit, which a compose follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compose import metadata
from compose.errors import RepositoryError, UsageError
from compose.ostree import refs
from compose.ostree.objects import COLLECTION_BINDING, COMPOSEFS_DIGEST
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions

if TYPE_CHECKING:
    from compose.solve.resolution import Advisory

Accounts = Mapping[str, bytes]
"""The files passwd, group, shadow and gshadow by name, each the concatenation of those in /usr/etc and /usr/lib of a commit;
empty without a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The commit that a compose follows: it is compared with it, and continues its ids and version.

    head: the commit of the ref, even if the options name another one to follow; None without a ref. timestamp: seconds since
    1970, 0 without a commit. present: is the commit in the repository, and not partial? measured: False for a commit without a
    composefs digest. collection: the collection id that the commit is bound to.
    """

    checksum: str | None = None
    head: str | None = None
    timestamp: int = 0
    inputhash: str | None = None
    version: str | None = None
    present: bool = False
    measured: bool = True
    collection: str | None = None

    @classmethod
    def of(cls, repo: Repo, options: ComposeOptions, ref: str | None) -> Previous:
        """The commit that the options name, else that of the ref. Raises UsageError when a named commit is missing."""
        checksum = head = refs.read_ref(repo.fd, ref) if ref else None
        if options.previous_commit:
            try:
                checksum = repo.commit_of(options.previous_commit)
            except RepositoryError as error:
                raise UsageError(f"--previous-commit: {error.message}", hint=error.hint) from error
        commit = None
        if checksum is not None and repo.has(checksum, "commit"):
            commit = repo.read_commit(checksum, (metadata.INPUTHASH, "version", COMPOSEFS_DIGEST, COLLECTION_BINDING))
        return cls(
            checksum=checksum,
            head=head,
            timestamp=max(commit.timestamp if commit else 0, options.previous_timestamp),
            inputhash=options.previous_inputhash or (commit.text(metadata.INPUTHASH) if commit else None),
            version=options.previous_version or (commit.text("version") if commit else None),
            present=commit is not None and checksum is not None and not repo.is_partial(checksum),
            measured=commit is None or commit.get(COMPOSEFS_DIGEST) is not None,
            collection=commit.text(COLLECTION_BINDING) if commit else None,
        )

    def read_accounts(self, repo: Repo) -> Accounts:
        """The accounts in the commit. Raises RepositoryError when an object is missing or damaged."""
        if self.checksum is None or not self.present:
            return {}
        commit = repo.read_commit(self.checksum, ())
        directories = [
            tree for place in ("etc", "lib") if (tree := repo.read_directory(commit, f"usr/{place}")) is not None
        ]
        return {
            name: b"".join(repo.read_file_in(tree, name) or b"" for tree in directories)
            for name in ("passwd", "group", "shadow", "gshadow")
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a compose takes from a record or bundle instead of finding it out.

    accounts: of the previous commit; None to read them from the repository. advisories: of the locked packages, if the lock
    does not have them. lockfile_repos: are the treefile's lockfile-repos used? layers: checksums of the ostree-layers' commits,
    by ref. directory: temporary directory with the unpacked record; "" without one.
    """

    accounts: Accounts | None = None
    advisories: tuple[Advisory, ...] = ()
    lockfile_repos: bool = False
    layers: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""


def named_parent(options: ComposeOptions, repo: Repo) -> str | None:
    """Checksum of the commit that --parent names, None without the flag. Raises UsageError if there is none; a full checksum
    may be of a commit elsewhere, as with rpm-ostree."""
    if options.parent is None:
        return None
    checksum = repo.resolve(options.parent)
    if checksum is None:
        raise UsageError(
            f"--parent={options.parent}: {repo.path} has no such ref or commit",
            hint=f"see: ostree --repo={repo.path} refs; without the flag the parent is the commit of the treefile's ref",
        )
    return checksum


def parent_of(options: ComposeOptions, repo: Repo, previous: Previous) -> str | None:
    """Checksum of the parent of a new commit: --parent, else the commit of the ref. Raises UsageError."""
    return None if options.no_parent else named_parent(options, repo) or previous.head
