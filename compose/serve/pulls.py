"""Report who pulled what: one line per pull, once it is over, instead of one for each of its thousands of requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from compose.events import Reporter
from compose.serve.paths import Kind, Resource
from compose.sizes import size

QUIET = 2.0
"""Seconds without a request after which a pull counts as over."""
_COMMITS_SHOWN = 3


@dataclass(slots=True)
class _Pull:
    """Counts of one pull.

    begun, last: monotonic time of the first and last request. commits: checksums, in order. parts: files of static deltas.
    size: bytes sent. missing: requested objects that the repository lacks.
    """

    begun: float
    last: float
    commits: dict[str, None] = field(default_factory=dict)
    objects: int = 0
    parts: int = 0
    size: int = 0
    missing: int = 0


class Pulls:
    """The pulls in progress, one per client. Methods may be called from any thread."""

    def __init__(
        self, name_of: Callable[[str], str], reporter: Reporter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """name_of: returns a description of a commit."""
        self._name_of = name_of
        self._reporter = reporter
        self._clock = clock
        self._lock = threading.Lock()
        self._pulls: dict[str, _Pull] = {}

    def note(self, client: str, resource: Resource, sent: int | None) -> None:
        """Record a request. sent: bytes sent; None if the repository lacks the file."""
        with self._lock:
            now = self._clock()
            pull = self._pulls.setdefault(client, _Pull(begun=now, last=now))
            pull.last = now
            if sent is None:
                pull.missing += not resource.optional
                return
            pull.size += sent
            pull.objects += resource.kind is Kind.OBJECT
            pull.parts += resource.kind is Kind.DELTA
            if resource.commit is not None:
                pull.commits[resource.commit] = None

    def report(self, *, final: bool = False) -> None:
        """Report the pulls that are over. final: all of them, because the server stops."""
        with self._lock:
            now = self._clock()
            over = [name for name, each in self._pulls.items() if final or now - each.last >= QUIET]
            ended = [(name, self._pulls.pop(name)) for name in over]
        for name, pull in ended:
            self._reporter.info(f"{name}: {self._line(pull)}")

    def _line(self, pull: _Pull) -> str:
        if not (pull.objects or pull.parts or pull.missing):
            return "checked for updates"
        named = [self._name_of(each) for each in list(pull.commits)[:_COMMITS_SHOWN]]
        if len(pull.commits) > _COMMITS_SHOWN:
            named.append(f"{len(pull.commits) - _COMMITS_SHOWN} more commits")
        counts = [f"{pull.objects} objects"]
        if pull.parts:
            counts.append(f"{pull.parts} delta parts")
        what = f"pulled {', '.join(named)}: " if named else "pulled "
        line = f"{what}{', '.join(counts)}, {size(pull.size)} in {pull.last - pull.begun:.1f}s"
        return f"{line}; {pull.missing} OBJECTS ARE MISSING here, see ostree fsck" if pull.missing else line
