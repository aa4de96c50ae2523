"""Composing again whenever an input changes.

Files are looked at every half second: that works on every filesystem, in containers and over NFS, where the kernel tells
nobody of changes. They are looked at before a compose reads them, so that what changes meanwhile is another change.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from compose.errors import ComposeError
from compose.events import Reporter
from compose.pipeline.options import ComposeOptions, ComposeResult
from compose.pipeline.run import compose_tree
from compose.pipeline.watched import Seen, Watched, changed, watched

POLL = 0.5
"""Seconds between two looks."""
SETTLE = 0.3
"""Seconds that all must stay as it is before it is composed: an editor writes in several steps, and git writes many files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One compose. changed: paths of what brought it about, none for the first. seconds: wall time. Result or error is None."""

    changed: tuple[str, ...]
    result: ComposeResult | None
    error: ComposeError | None
    seconds: float


def watch(options: ComposeOptions, reporter: Reporter, told: Callable[[Round], None]) -> NoReturn:
    """Compose, and again after each change, for ever: a signal ends it, by what its handler raises. told: called after each
    compose. An error of a compose is told, and what mends it is a change."""
    because: tuple[str, ...] = ()
    while True:
        files, seen = _look(options)
        told(_compose(options, reporter, because))
        because = wait(files, seen)


def wait(files: Watched, seen: Seen) -> tuple[str, ...]:
    """Return when some files are not as they were seen, and stay as they are now; their paths."""
    while True:
        now = files.look()
        if now != seen:
            time.sleep(SETTLE)
            # one that is renamed into its place is missing for a moment, and may be what it was
            if files.look() == now:
                return changed(seen, now)
        else:
            time.sleep(POLL)


def _look(options: ComposeOptions) -> tuple[Watched, Seen]:
    """What is to be watched, and its state from before it was read to tell what that is."""
    files = watched(options)
    while True:
        seen = files.look()
        again = watched(options)
        if again == files:
            return files, seen
        files = again


def _compose(options: ComposeOptions, reporter: Reporter, because: tuple[str, ...]) -> Round:
    begun = time.monotonic()
    result = error = None
    try:
        result = compose_tree(options, reporter)
    except ComposeError as raised:
        error = raised
    return Round(changed=because, result=result, error=error, seconds=time.monotonic() - begun)
