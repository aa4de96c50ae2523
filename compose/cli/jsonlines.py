"""`--progress=json`: events, one JSON object per line, as documented in docs/events.md and events.schema.json."""

from __future__ import annotations

import json
import os
import select
import threading
import time
from itertools import count
from typing import Any

import compose
from compose.cli.ending import exit_code_of, message_of
from compose.cli.places import Place, faults_of, place_in
from compose.cli.reporter import CommandReporter
from compose.errors import ComposeError
from compose.events import Task

SCHEMA = 1
INTERVAL = 0.25
"""Minimum number of seconds between two events of a running task."""


class JsonReporter(CommandReporter):
    """Writes events, the last one "result" or "error". A reader that goes away does not stop the compose.

    descriptor: open for writing. command: as in "compose tree".
    """

    def __init__(self, descriptor: int, command: str) -> None:
        self._descriptor: int | None = descriptor
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._ended = False
        self._tasks = count(1)
        self.event("begin", schema=SCHEMA, version=compose.__version__, command=command)

    def event(self, event: str, **fields: Any) -> None:
        row = {"event": event, "time": round(time.monotonic() - self._begun, 3), **fields}
        data = json.dumps(row).encode() + b"\n"
        with self._lock:
            try:
                while data and self._descriptor is not None:
                    data = data[_write(self._descriptor, data) :]
            except OSError:
                self._descriptor = None

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        return _JsonTask(self, next(self._tasks), name, total, unit)

    def stage_begun(self, name: str) -> None:
        self.event("stage", name=name, state="begun")

    def stage_ended(self, name: str, seconds: float, *, failed: bool) -> None:
        self.event("stage", name=name, state="failed" if failed else "ended", seconds=round(seconds, 3))

    def info(self, message: str) -> None:
        self.event("notice", message=message)

    def warn(self, message: str) -> None:
        self.event("warning", message=message, place=_row(place_in(message)))

    def result(self, outcome: str, **facts: Any) -> None:
        self._ended = True
        self.event("result", outcome=outcome, **facts)

    def failed(self, error: BaseException) -> None:
        self._ended = True
        details, hint = (error.details, error.hint) if isinstance(error, ComposeError) else ((), None)
        self.event(
            "error",
            kind=type(error).__name__,
            message=message_of(error),
            details=list(details),
            hint=hint,
            exit_code=exit_code_of(error),
            faults=[{"message": message, "place": _row(place)} for message, place in faults_of(error)],
        )

    def done(self) -> None:
        """Report success with the outcome "done", unless the command has reported its own result or failure."""
        if not self._ended:
            self.result("done")


def _write(descriptor: int, data: bytes) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        # a non-blocking pipe, set up by the caller, whose reader is behind
        select.select((), (descriptor,), ())
        return 0


def _row(place: Place | None) -> dict[str, Any] | None:
    return None if place is None else {"file": place.file, "line": place.line, "column": place.column}


class _JsonTask(Task):
    def __init__(self, reporter: JsonReporter, number: int, name: str, total: int | None, unit: str) -> None:
        self._reporter = reporter
        self._number = number
        self._done = 0
        self._begun = self._reported = time.monotonic()
        self._closed = False
        self._lock = threading.Lock()
        reporter.event("task", id=number, state="begun", name=name, total=total, unit=unit)

    def advance(self, amount: int = 1, *, detail: str = "") -> None:
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._reported < INTERVAL:
                return
            self._reported = now
        self._reporter.event("task", id=self._number, state="running", done=self._done, detail=detail)

    def close(self, *, failed: bool = False) -> None:
        if not self._closed:
            self._closed = True
            self._reporter.event(
                "task",
                id=self._number,
                state="failed" if failed else "ended",
                done=self._done,
                seconds=round(time.monotonic() - self._begun, 3),
            )
