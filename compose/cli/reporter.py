"""Reporters of commands: besides progress, they receive the result or failure, and a summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compose.events import Reporter, Task


class CommandReporter(Reporter):
    """Silent reporter of a command; subclasses show what they are told."""

    def leave(self) -> None:
        """End progress: what follows on standard output is the result."""

    def result(self, outcome: str, **facts: Any) -> None:
        """Report success. outcome: "committed", "unchanged", "planned", ... facts: JSON values."""

    def failed(self, error: BaseException) -> None:
        """Report failure. The caller prints the text of the error."""

    def summarise(self, lines: Sequence[str]) -> None:
        """Add markdown to the summary page of the run, if the CI service has one."""


class Both(CommandReporter):
    """Forwards everything to several reporters."""

    def __init__(self, *reporters: CommandReporter) -> None:
        self._reporters = reporters

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        return _Tasks([each.task(name, total=total, unit=unit) for each in self._reporters])

    def stage_begun(self, name: str) -> None:
        for each in self._reporters:
            each.stage_begun(name)

    def stage_ended(self, name: str, seconds: float, *, failed: bool) -> None:
        for each in self._reporters:
            each.stage_ended(name, seconds, failed=failed)

    def info(self, message: str) -> None:
        for each in self._reporters:
            each.info(message)

    def warn(self, message: str) -> None:
        for each in self._reporters:
            each.warn(message)

    def leave(self) -> None:
        for each in self._reporters:
            each.leave()

    def result(self, outcome: str, **facts: Any) -> None:
        for each in self._reporters:
            each.result(outcome, **facts)

    def failed(self, error: BaseException) -> None:
        for each in self._reporters:
            each.failed(error)

    def summarise(self, lines: Sequence[str]) -> None:
        for each in self._reporters:
            each.summarise(lines)


class _Tasks(Task):
    def __init__(self, tasks: list[Task]) -> None:
        self._tasks = tasks

    def advance(self, amount: int = 1, *, detail: str = "") -> None:
        for each in self._tasks:
            each.advance(amount, detail=detail)

    def close(self, *, failed: bool = False) -> None:
        for each in self._tasks:
            each.close(failed=failed)
