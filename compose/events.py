"""Events of a running compose: stages, progress, notices.

Library code never prints; it reports to the `Reporter` that it is given. The base class ignores everything; the CLI has
subclasses for terminals, plain lines and JSON.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Task:
    """Something that takes time, such as "Importing packages" with total 217. A context manager."""

    def advance(self, amount: int = 1, *, detail: str = "") -> None:
        """Report that amount more units are done. detail: the current one, such as a package."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)

    def close(self, *, failed: bool = False) -> None:
        """End the task. failed: whether an exception ended it."""


class Reporter:
    """A reporter that ignores everything. Methods may be called from any thread."""

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        """Begin a task. unit: "packages", "bytes"... total: in units, None if unknown."""
        del name, total, unit
        return Task()

    def stage_begun(self, name: str) -> None:
        """Report the start of a stage, such as "solve" or "assemble". Stages do not overlap."""

    def stage_ended(self, name: str, seconds: float, *, failed: bool) -> None:
        """Report the end of a stage. seconds: wall time."""

    def info(self, message: str) -> None:
        """Report something for the log of every compose."""

    def warn(self, message: str) -> None:
        """Report something that is allowed but probably unintended."""
