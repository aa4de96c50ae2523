"""What a running compose tells its caller: stages, progress, notices.

Library code reports through a `Reporter` handed to it and never prints. The base class is silent, so a caller that
wants nothing passes `Reporter()`; the CLI subclasses it for a terminal, for plain lines and for JSON.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Task:
    """One thing a user waits for, e.g. "Importing packages" with total 217. Use as a context manager."""

    def advance(self, amount: int = 1, *, detail: str = "") -> None:
        """Say that `amount` more units are done; detail names the current one (a package)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)

    def close(self, *, failed: bool = False) -> None:
        """The task is over."""


class Reporter:
    """Silent reporter; subclasses show what they are told. Methods may be called from any thread."""

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        """Begin a task; total in units ("packages", "bytes"), None when not known."""
        del name, total, unit
        return Task()

    def stage_begun(self, name: str) -> None:
        """A stage of the compose begins: "solve", "assemble". They do not overlap."""

    def stage_ended(self, name: str, seconds: float, *, failed: bool) -> None:
        """It is over. seconds: wall time."""

    def info(self, message: str) -> None:
        """A line a user wants in the log of every compose."""

    def warn(self, message: str) -> None:
        """Something that is allowed but probably not meant."""
