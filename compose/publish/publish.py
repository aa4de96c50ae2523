"""Publish commits, in an order that never offers clients a commit before all its objects are in place.

1. objects, signatures and static deltas: no client asks for them yet
2. refs and summary: together, once all of them can be written
3. prune: what is no longer reachable from a ref
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compose import records
from compose.errors import ComposeError, RepositoryError
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.copying import check_copyable
from compose.ostree.lock import locked, locked_to_read
from compose.ostree.prune import Doomed, find_doomed, remove
from compose.ostree.repo import Repo
from compose.ostree.summary import write_summary
from compose.publish import lineage
from compose.publish.checks import check_age, check_bindings, check_summary, printable
from compose.publish.copying import copy_missing, find_missing
from compose.publish.deltas import changed_superblocks, make_deltas, missing_deltas
from compose.publish.model import Move, Published, PublishOptions


def publish(options: PublishOptions, reporter: Reporter) -> Published:
    """Copy commits to the repository that clients pull, sign them, move its refs, and prune it.

    Raises PolicyError for what clients would refuse, UsageError if something cannot be signed, RepositoryError, StorageError.
    No ref has moved then, unless the message says so.
    """
    with Repo.open(options.source) as source, Repo.open(options.target) as target:
        check_copyable(source, target)
        check_summary(target, options.signers)
        if not options.dry_run:
            target.check_writable()
        with locked_to_read(source, reporter), locked_to_read(target, reporter):
            # until refs lead to the copied commits, a prune would remove them
            moves = _moves(source, target, options)
            missing = find_missing(source, target, [each.commit for each in moves], options.depth)
            deltas = missing_deltas(source, target, moves, options.deltas)
            pruned = None
            if options.dry_run:
                pruned = _doomed(source, target, moves, options, missing.commits)
            else:
                copy_missing(source, target, missing, options.signers, options.jobs, reporter)
                deltas = make_deltas(target, deltas, options.jobs, reporter)
                _move(source, target, moves, options, reporter)
        if not options.dry_run and options.retention is not None:
            pruned = _prune(source, target, moves, options, reporter)
    signatures = len(options.signers) * (len(missing.commits) + 1)
    return Published(moves=moves, copied=missing.copied, deltas=deltas, signatures=signatures, pruned=pruned)


def _moves(source: Repo, target: Repo, options: PublishOptions) -> tuple[Move, ...]:
    """One move per requested ref. Raises PolicyError for a commit that clients would refuse."""
    before = target.refs()
    names = [each.name for each in options.requests]
    for name in names:
        if below := next((each for each in names if each.startswith(f"{name}/")), None):
            raise RepositoryError(f"a repository cannot have both refs {name} and {below}", hint="publish one of them")
    moves = []
    for request in options.requests:
        refs.validate_ref(request.name)
        checksum = source.commit_of(request.revision)
        commit = source.read_commit(checksum)
        check_bindings(request.name, checksum, commit, target.config.collection_id)
        moves.append(
            Move(
                name=request.name,
                before=before.get(request.name),
                commit=checksum,
                version=printable(commit.text("version") or ""),
            )
        )
    for move in moves:
        _check_age(source, target, move, move.before, options)
    return tuple(moves)


def _check_age(source: Repo, target: Repo, move: Move, before: str | None, options: PublishOptions) -> bool:
    return check_age(move.name, move.commit, source, before, target, allowed=options.allow_downgrade)


def _move(source: Repo, target: Repo, moves: tuple[Move, ...], options: PublishOptions, reporter: Reporter) -> None:
    def confirm() -> None:
        # another publication may have moved the refs meanwhile
        now = target.refs()
        for move in moves:
            if not _check_age(source, target, move, now.get(move.name), options):
                reporter.info(f"{move.name}: {move.commit} does not descend from {now.get(move.name)}")
        lineage.remember(target, [replace(move, before=now.get(move.name)) for move in moves])

    def superblocks() -> dict[str, bytes]:
        return changed_superblocks(target, moves, reporter)

    write_summary(target, reporter, options.signers, moves=_commits(moves), confirm=confirm, superblocks=superblocks)


def _commits(moves: tuple[Move, ...]) -> dict[str, str]:
    return {each.name: each.commit for each in moves}


def _doomed(
    source: Repo, target: Repo, moves: tuple[Move, ...], options: PublishOptions, coming: Sequence[str] | None = None
) -> Doomed | None:
    """What pruning removes. coming: commits that a publication would copy, for a dry run; None after a publication."""
    if options.retention is None:
        return None
    retentions = dict.fromkeys(_commits(moves), options.retention)
    if coming is None:
        return find_doomed(target, retentions, source=source, before=lineage.predecessors(target))
    return find_doomed(
        target,
        retentions,
        source=source,
        moved=_commits(moves),
        coming=frozenset(coming),
        before=lineage.predecessors(target, moves),
    )


def _prune(
    source: Repo, target: Repo, moves: tuple[Move, ...], options: PublishOptions, reporter: Reporter
) -> Doomed | None:
    try:
        with locked(target, reporter, exclusive=True):
            doomed = _doomed(source, target, moves, options)
            assert doomed is not None
            if doomed.deltas:
                write_summary(target, reporter, options.signers, without=doomed.deltas)
            remove(target, doomed, reporter)
            records.forget_gone(target)
            lineage.forget_gone(target)
        return doomed
    except ComposeError as error:
        raise type(error)(
            f"all refs are published, but {target.path} is not pruned: {error.message}",
            hint=error.hint or "run the same command again to prune what is left",
            details=error.details,
        ) from error
