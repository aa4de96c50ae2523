"""Composing again whenever an input changes.

Files are polled every half second, which works on every filesystem, in containers and over NFS, where the kernel sends no
notifications. Their state is taken before a compose reads them, so that changes during the compose are not missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from compose.errors import ComposeError, RefMovedError
from compose.events import Reporter
from compose.pipeline.options import ComposeOptions, ComposeResult
from compose.pipeline.run import compose_tree
from compose.pipeline.watched import Seen, Watched, changed, watched

POLL = 0.5
"""Seconds between polls."""
SETTLE = 0.3
"""Seconds without changes before composing: editors write in several steps, and git writes many files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One compose. changed: paths whose change caused it, none for the first. seconds: wall time. Result or error is None."""

    changed: tuple[str, ...]
    result: ComposeResult | None
    error: ComposeError | None
    seconds: float


def watch(options: ComposeOptions, reporter: Reporter, on_round: Callable[[Round], None]) -> NoReturn:
    """Compose, and again after each change, until a signal handler raises.

    on_round: called after each compose, also after one that failed; fixing the cause is a change like any other.
    """
    causes: tuple[str, ...] = ()
    while True:
        files, seen = _look(options)
        on_round(_compose(options, reporter, causes))
        causes = wait(files, seen)


def wait(files: Watched, seen: Seen) -> tuple[str, ...]:
    """Wait until files differ from `seen` and have stopped changing; returns their paths."""
    while True:
        now = files.look()
        if now != seen:
            time.sleep(SETTLE)
            # a file being replaced is missing for a moment, and may come back unchanged
            if files.look() == now:
                return changed(seen, now)
        else:
            time.sleep(POLL)


def _look(options: ComposeOptions) -> tuple[Watched, Seen]:
    """The files to watch, and their state from before they were read to find out which they are."""
    files = watched(options)
    while True:
        seen = files.look()
        again = watched(options)
        if again == files:
            return files, seen
        files = again


def _compose(options: ComposeOptions, reporter: Reporter, causes: tuple[str, ...]) -> Round:
    begun = time.monotonic()
    result = error = None
    while result is None and error is None:
        try:
            result = compose_tree(options, reporter)
        except RefMovedError as raised:
            # no change of an input would follow
            reporter.warn(f"{raised.message}. Composing again")
        except ComposeError as raised:
            error = raised
    return Round(changed=causes, result=result, error=error, seconds=time.monotonic() - begun)
