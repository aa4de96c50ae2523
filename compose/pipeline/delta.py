"""Static deltas between commits of a repository."""

from __future__ import annotations

from collections.abc import Sequence

from compose.errors import UsageError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.delta.write import DeltaOptions, WrittenDelta, write_delta, write_delta_file
from compose.ostree.lock import locked
from compose.ostree.repo import Repo
from compose.ostree.signers import Signer
from compose.ostree.summary import keeps_signature, summary_lists_deltas, write_summary
from compose.publish.checks import check_summary


def make_delta(
    path: str,
    target: str,
    source: str | None,
    options: DeltaOptions,
    reporter: Reporter,
    *,
    empty: bool = False,
    signers: Sequence[Signer] = (),
    filename: str | None = None,
) -> WrittenDelta | None:
    """Write a delta, and list it in the summary where there is one. target, source: revisions; source None for the parent of
    the target, or, with empty, for nothing. signers: of the summary. filename: write a delta that is complete to this file
    instead, and leave the repository as it is. None: the delta is there, and options let it stay.

    Raises RepositoryError, StorageError, and UsageError for a commit without a parent, when both are the same commit, or when
    the summary cannot be signed as it was.
    """
    with Repo.open(path) as repo:
        to = repo.commit_of(target)
        origin = None if empty else repo.commit_of(source) if source is not None else _parent(repo, target, to)
        if origin == to:
            raise UsageError(f"{source} and {target} are the same commit, {to}")
        if filename is not None:
            return write_delta_file(repo, source=origin, target=to, path=filename, options=options, reporter=reporter)
        if signers:
            check_summary(repo, signers)
        written = write_delta(repo, source=origin, target=to, options=options, reporter=reporter)
        _list_in_summary(repo, signers, reporter)
        return written


def _list_in_summary(repo: Repo, signers: Sequence[Signer], reporter: Reporter) -> None:
    """Clients look for deltas there. A summary that lists them already is left alone, and its signature holds."""
    config = repo.config
    if repo.has_summary() or config.auto_update_summary or signers:
        with locked(repo, reporter, exclusive=False):
            if not signers and (summary_lists_deltas(repo) or keeps_signature(repo, reporter, "delta")):
                return
            write_summary(repo, reporter, signers)
    elif config.mode is Mode.ARCHIVE:
        reporter.warn(
            f"{repo.path} has no summary, without which clients find no delta; make one: ostree --repo={repo.path} summary -u"
        )


def _parent(repo: Repo, revision: str, commit: str) -> str:
    parent = repo.read_commit(commit, ()).parent.hex()
    if not parent:
        raise UsageError(
            f"{revision} has no parent to make a delta from",
            hint="give another commit with --from=REV, or --empty to make a delta for clients that have nothing",
        )
    return repo.commit_of(parent)
