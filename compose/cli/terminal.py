"""Progress as bars on a terminal. It goes to stderr; stdout is for results."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from compose.cli.ending import visible
from compose.cli.reporter import CommandReporter
from compose.events import Task


class TerminalReporter(CommandReporter):
    """Shows bars that update in place. A context manager, because the terminal has to be restored."""

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
        self._progress.start()
        return _BarTask(self._progress, name, total)

    def result(self, outcome: str, **facts: Any) -> None:
        del outcome, facts
        self.leave()

    def failed(self, error: BaseException) -> None:
        del error
        self.leave()

    def leave(self) -> None:
        """Stop updating the bars, which stay on the terminal; the next compose starts with none."""
        self._progress.stop()
        for each in self._progress.task_ids:
            self._progress.remove_task(each)

    def info(self, message: str) -> None:
        self._console.print(visible(message), markup=False, highlight=False)

    def warn(self, message: str) -> None:
        self._console.print(Text.assemble(("warning:", "yellow"), " ", visible(message)), highlight=False)


class _BarTask(Task):
    def __init__(self, progress: Progress, name: str, total: int | None) -> None:
        self._progress = progress
        self._id = progress.add_task(name, total=total, detail="")

    def advance(self, amount: int = 1, *, detail: str = "") -> None:
        # leave() may have removed it already
        with suppress(KeyError):
            self._progress.update(self._id, advance=amount, detail=visible(detail))

    def close(self, *, failed: bool = False) -> None:
        task = next((each for each in self._progress.tasks if each.id == self._id), None)
        if task is None:
            return
        total = task.total if failed else (task.total if task.total is not None else 1)
        self._progress.update(self._id, total=total, completed=task.completed if failed else total, detail="")
        self._progress.stop_task(self._id)
