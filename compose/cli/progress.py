"""Reporters: bars on a terminal, plain lines everywhere else. All of it goes to stderr; stdout is for results."""

from __future__ import annotations

import sys
import threading
import time
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from compose.events import Reporter, Task

PLAIN_INTERVAL = 5.0
"""Seconds between two lines of one task in plain output, so that a CI log shows life but stays short."""


class PlainReporter(Reporter):
    """One line when a task begins, one every PLAIN_INTERVAL seconds, one when it ends."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._begun = time.monotonic()
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        with self._lock:
            self._stream.write(f"[{time.monotonic() - self._begun:7.1f}s] {text}\n")
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
    """ "217 packages", "105.3 MB"."""
    if unit == "bytes":
        return f"{count / 1e6:.1f} MB"
    return f"{count} {unit}".rstrip()


class TerminalReporter(Reporter):
    """Bars that update in place; a context manager, for the terminal must be given back."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}[/]"),
            console=self._console,
        )

    def __enter__(self) -> TerminalReporter:
        self._progress.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._progress.stop()

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        del unit
        return _BarTask(self._progress, name, total)

    def info(self, message: str) -> None:
        self._console.print(message, markup=False, highlight=False)

    def warn(self, message: str) -> None:
        self._console.print(f"[yellow]warning:[/] {message}", highlight=False)


class _BarTask(Task):
    def __init__(self, progress: Progress, name: str, total: int | None) -> None:
        self._progress = progress
        self._id = progress.add_task(name, total=total, detail="")

    def advance(self, amount: int = 1, *, detail: str = "") -> None:
        self._progress.update(self._id, advance=amount, detail=detail)

    def close(self, *, failed: bool = False) -> None:
        task = self._progress.tasks[self._id]
        total = task.total if failed else (task.total if task.total is not None else 1)
        self._progress.update(self._id, total=total, completed=task.completed if failed else total, detail="")
        self._progress.stop_task(self._id)
