"""Who pulled what: one line for each pull, when it went quiet, and not one for each of its thousands of requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from compose.events import Reporter
from compose.serve.paths import Asked, Kind

QUIET = 2.0
"""Seconds without a request after which a pull is over."""
_NAMED = 3


@dataclass(slots=True)
class _Pull:
    """begun, last: of the monotonic clock. commits: in order. size: bytes that were sent."""

    begun: float
    last: float
    commits: dict[str, None] = field(default_factory=dict)
    objects: int = 0
    parts: int = 0
    size: int = 0
    missing: int = 0


class Pulls:
    """Those that are on their way, one of each client. Methods may be called from any thread."""

    def __init__(
        self, name_of: Callable[[str], str], reporter: Reporter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """name_of: what to call a commit."""
        self._name_of = name_of
        self._reporter = reporter
        self._clock = clock
        self._lock = threading.Lock()
        self._pulls: dict[str, _Pull] = {}

    def note(self, client: str, asked: Asked, sent: int | None) -> None:
        """A client asked for something. sent: bytes that it got; None when the repository does not have it."""
        with self._lock:
            now = self._clock()
            pull = self._pulls.setdefault(client, _Pull(begun=now, last=now))
            pull.last = now
            if sent is None:
                pull.missing += not asked.optional
                return
            pull.size += sent
            pull.objects += asked.kind is Kind.OBJECT
            pull.parts += asked.kind is Kind.DELTA
            if asked.commit is not None:
                pull.commits[asked.commit] = None

    def tell(self, *, all_of_them: bool = False) -> None:
        """Say which are over. all_of_them: for nobody will ask for more."""
        with self._lock:
            now = self._clock()
            over = [name for name, each in self._pulls.items() if all_of_them or now - each.last >= QUIET]
            told = [(name, self._pulls.pop(name)) for name in over]
        for name, pull in told:
            self._reporter.info(f"{name}: {self._line(pull)}")

    def _line(self, pull: _Pull) -> str:
        if not (pull.objects or pull.parts or pull.missing):
            return "looked for news"
        named = [self._name_of(each) for each in list(pull.commits)[:_NAMED]]
        if len(pull.commits) > _NAMED:
            named.append(f"{len(pull.commits) - _NAMED} more commits")
        counts = [f"{pull.objects} objects"]
        if pull.parts:
            counts.append(f"{pull.parts} parts of deltas")
        what = f"pulled {', '.join(named)}: " if named else "pulled "
        line = f"{what}{', '.join(counts)}, {pull.size / 1e6:.1f} MB in {pull.last - pull.begun:.1f}s"
        return f"{line}; {pull.missing} OBJECTS ARE MISSING HERE (ostree fsck)" if pull.missing else line
