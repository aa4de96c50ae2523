"""The commit that a compose follows."""

from __future__ import annotations

from dataclasses import dataclass

from compose import metadata
from compose.errors import RepositoryError, UsageError
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The commit that this compose follows: what it is compared with, and what ids and version come from."""

    checksum: str | None = None
    commit: Commit | None = None
    inputhash: str | None = None
    version: str | None = None

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
            commit=commit,
            inputhash=options.previous_inputhash or (known if isinstance(known, str) else None),
            version=options.previous_version or (version if isinstance(version, str) else None),
        )


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
