"""How a command ends: exit codes of errors and of signals, and what is said."""

from __future__ import annotations

import signal

from compose.errors import ComposeError

BUG = 1
"""Exit code of an exception that nobody meant."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM: unwinds everything, so that every context manager cleans up after itself."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_code_of(error: BaseException) -> int:
    """See compose.errors; 128 + number after a signal."""
    if isinstance(error, ComposeError):
        return error.exit_code
    return 128 + error.number if isinstance(error, Interrupted) else BUG


def message_of(error: BaseException) -> str:
    """One sentence."""
    if isinstance(error, ComposeError):
        return error.message
    if isinstance(error, Interrupted):
        return f"interrupted by {signal.Signals(error.number).name}"
    return f"{type(error).__name__}: {error}"


def describe(error: ComposeError | Interrupted) -> str:
    """Message, details indented, the way out."""
    lines = [f"error: {message_of(error)}"]
    if isinstance(error, ComposeError):
        lines += [f"  {line}" for line in error.details]
        if error.hint:
            lines.append(f"hint: {error.hint}")
    return "\n".join(lines)
