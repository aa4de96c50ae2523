"""Progress in plain lines, for CI and pipes. It goes to stderr; stdout is for results."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from typing import IO

from compose.cli.ending import visible
from compose.cli.reporter import CommandReporter
from compose.events import Task
from compose.sizes import size

PLAIN_INTERVAL = 5.0
"""Seconds between two lines of one task, so that a CI log shows activity but stays short."""


class PlainReporter(CommandReporter):
    """Prints a line when a task begins, every PLAIN_INTERVAL seconds, and when it ends."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._begun = time.monotonic()
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        self.raw(f"[{time.monotonic() - self._begun:7.1f}s] {visible(text)}")

    def raw(self, text: str) -> None:
        """Print a line unchanged. A write error is ignored: a full disk for the log must not stop the compose."""
        with self._lock, suppress(OSError):
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        return _PlainTask(self, name, total, unit)

    def info(self, message: str) -> None:
        self.line(message)

    def warn(self, message: str) -> None:
        self.line(f"warning: {message}")


class _PlainTask(Task):
    def __init__(self, reporter: PlainReporter, name: str, total: int | None, unit: str) -> None:
        self._reporter = reporter
        self._name = name
        self._total = total
        self._unit = unit
        self._done = 0
        self._begun = self._shown = time.monotonic()
        self._closed = False
        reporter.line(f"{name}{self._amount(total)} ...")

    def _amount(self, count: int | None) -> str:
        return "" if count is None or not self._unit else f": {quantity(count, self._unit)}"

    def advance(self, amount: int = 1, *, detail: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._shown >= PLAIN_INTERVAL:
            self._shown = now
            of = f" of {quantity(self._total, self._unit)}" if self._total else ""
            done = quantity(self._done, self._unit if not of else "" if self._unit != "bytes" else self._unit)
            self._reporter.line(f"{self._name}: {done}{of}{f' ({detail})' if detail else ''}")

    def close(self, *, failed: bool = False) -> None:
        if not self._closed:
            self._closed = True
            state = "failed" if failed else "done"
            self._reporter.line(f"{self._name}: {state} in {time.monotonic() - self._begun:.1f}s")


def quantity(count: int, unit: str) -> str:
    """Format an amount: "217 packages", "105.3 MB"."""
    if unit == "bytes":
        return size(count)
    return f"{count} {unit}".rstrip()
