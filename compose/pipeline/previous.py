"""The commit that a compose follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compose import metadata
from compose.errors import RepositoryError, UsageError
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions
from compose.solve.resolution import Advisory

ACCOUNTS = ("passwd", "group", "shadow", "gshadow")
"""Files of accounts that a compose looks at in the commit before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The commit that this compose follows: what it is compared with, and what ids and version come from.

    timestamp: seconds since 1970, 0 when there is none. accounts: each of ACCOUNTS with what /usr/etc and /usr/lib have of it,
    one after the other; empty when the commit is not there.
    """

    checksum: str | None = None
    timestamp: int = 0
    inputhash: str | None = None
    version: str | None = None
    accounts: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of(cls, repo: Repo, options: ComposeOptions, ref: str | None) -> Previous:
        revision = options.previous_commit or ref
        checksum = repo.resolve(revision) if revision else None
        if options.previous_commit and (checksum is None or not repo.has(checksum, "commit")):
            raise RepositoryError(f"{repo.path} has no commit {options.previous_commit}", hint="see: ostree refs")
        commit = None
        if checksum is not None and repo.has(checksum, "commit") and not repo.is_partial(checksum):
            commit = repo.read_commit(checksum)
        known = commit.get(metadata.INPUTHASH) if commit else None
        version = commit.get("version") if commit else None
        return cls(
            checksum=checksum,
            timestamp=commit.timestamp if commit else 0,
            inputhash=options.previous_inputhash or (known if isinstance(known, str) else None),
            version=options.previous_version or (version if isinstance(version, str) else None),
            accounts=_accounts_of(repo, commit) if commit else (),
        )

    @property
    def present(self) -> bool:
        """Is the commit there, and whole?"""
        return bool(self.accounts)

    def account_file(self, name: str) -> bytes | None:
        """Entries of the commit's passwd, group, shadow or gshadow; None without a commit."""
        return dict(self.accounts).get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a compose takes from a record instead of looking for it. previous: None to look for it all the same.
    advisories: of the locked packages. lockfile_repos: do the treefile's lockfile-repos take part? layers: checksums of the
    commits that were laid over, by ref. directory: where the record was unpacked, which nobody will find later; "" without
    one."""

    previous: Previous | None = None
    advisories: tuple[Advisory, ...] = ()
    lockfile_repos: bool = False
    layers: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""


def _accounts_of(repo: Repo, commit: Commit) -> tuple[tuple[str, bytes], ...]:
    places = [tree for place in ("etc", "lib") if (tree := repo.read_directory(commit, f"usr/{place}")) is not None]
    return tuple((name, b"".join(repo.read_file_in(tree, name) or b"" for tree in places)) for name in ACCOUNTS)


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
