"""Make static deltas from the commits that clients have to those being published."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

from compose.events import Reporter
from compose.ostree.delta.layout import delta_path
from compose.ostree.delta.signatures import outdated_superblocks
from compose.ostree.delta.write import DeltaOptions, write_delta
from compose.ostree.reachable import past, reader
from compose.ostree.repo import Repo
from compose.publish.lineage import predecessors
from compose.publish.model import Move, PublishedDelta


def missing_deltas(source: Repo, target: Repo, moves: Sequence[Move], count: int) -> tuple[PublishedDelta, ...]:
    """Find the static deltas that the target lacks: from the last `count` commits published under each ref to its new one."""
    found = {
        (earlier, move.commit): PublishedDelta(source=earlier, target=move.commit)
        for move in moves
        for earlier in islice(_published_before(source, target, move), count)
        if not os.path.exists(os.path.join(target.path, delta_path(earlier, move.commit), "superblock"))
    }
    return tuple(found.values())


def _published_before(source: Repo, target: Repo, move: Move) -> Iterator[str]:
    """Earlier commits of a ref in the target, latest first. As for pruning, the source fills gaps in the history."""
    before = partial(predecessors(target, [move]), move.name)
    start = move.before if move.before is not None else move.commit
    for checksum, _ in past(start, reader(source, target), before):
        if checksum != move.commit and target.has(checksum, "commit") and not target.is_partial(checksum):
            yield checksum


def make_deltas(
    target: Repo, wanted: Sequence[PublishedDelta], jobs: int, reporter: Reporter
) -> tuple[PublishedDelta, ...]:
    """Make static deltas; the commits are in the target, and no ref leads to them yet. Raises as write_delta() does."""
    made = []
    for each in wanted:
        reporter.info(f"making a static delta from {each.source} to {each.target}")
        options = DeltaOptions(jobs=jobs)
        written = write_delta(target, source=each.source, target=each.target, options=options, reporter=reporter)
        made.append(PublishedDelta(source=each.source, target=each.target, written=written))
    return tuple(made)


def changed_superblocks(target: Repo, moves: Sequence[Move], reporter: Reporter) -> dict[str, bytes]:
    """Superblocks of existing deltas with the signatures that their commits have now, by name, where these differ. Raises as
    outdated_superblocks() does."""
    found: dict[str, bytes] = {}
    for commit in dict.fromkeys(move.commit for move in moves):
        found |= outdated_superblocks(target, commit, reporter)
    return found
