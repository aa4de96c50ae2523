"""Static deltas between commits of a repository."""

from __future__ import annotations

from compose.errors import UsageError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.delta.write import DeltaOptions, WrittenDelta, write_delta
from compose.ostree.lock import locked
from compose.ostree.repo import Repo
from compose.ostree.summary import write_summary
from compose.pipeline.inspect import commit_of


def make_delta(
    path: str, target: str, source: str | None, options: DeltaOptions, reporter: Reporter, *, empty: bool = False
) -> WrittenDelta | None:
    """Write a delta, and the summary anew where there is one. target, source: revisions; source None for the parent of the
    target, or, with empty, for nothing. None: it is there, and options let it stay.

    Raises RepositoryError, StorageError, and UsageError for a commit without a parent, or for twice the same.
    """
    with Repo.open(path) as repo:
        to = commit_of(repo, target)
        origin = None if empty else commit_of(repo, source) if source is not None else _parent(repo, target, to)
        if origin == to:
            raise UsageError(f"{source} and {target} are the same commit, {to}")
        written = write_delta(repo, source=origin, target=to, options=options, reporter=reporter)
        if written is not None:
            _list_it(repo, reporter)
        return written


def _list_it(repo: Repo, reporter: Reporter) -> None:
    """Where clients look for deltas."""
    config = repo.config
    if repo.has_summary() or config.auto_update_summary:
        with locked(repo, reporter, exclusive=False):
            write_summary(repo, reporter)
    elif config.mode is Mode.ARCHIVE:
        reporter.warn(
            f"{repo.path} has no summary, and clients find no delta without one; make it: ostree --repo={repo.path} summary -u"
        )


def _parent(repo: Repo, revision: str, commit: str) -> str:
    parent = repo.read_commit(commit, ()).parent.hex()
    if not parent:
        raise UsageError(
            f"{revision} has no parent, from which a delta could lead to it",
            hint="--from=REV names another commit, --empty makes a delta for clients that have nothing",
        )
    return commit_of(repo, parent)
