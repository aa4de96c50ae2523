"""How a command ends: exit codes of errors and of signals, and what is said."""

from __future__ import annotations

import errno
import signal

from compose.errors import ComposeError, SandboxError

# What the kernel says where there are to be no more processes, threads, open files or memory.
_LIMITS = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
BUG = 1
"""Exit code of an exception that nobody meant."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM: unwinds everything, so that every context manager cleans up after itself."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def limited(error: BaseException) -> ComposeError | None:
    """What to tell of an error that nobody meant when it is the machine that gives no more; None for others."""
    match error:
        case ComposeError():
            return None
        case OSError() if error.errno in _LIMITS:
            text = error.strerror
        case RuntimeError() if "can't start new thread" in str(error):
            text = "no more threads"
        case MemoryError():
            text = "no more memory"
        case _:
            return None
    return SandboxError(
        f"the machine gives this compose no more: {text}",
        hint="raise the limits of processes, open files and memory (ulimit -u, -n, -v; those of the container), or use fewer "
        "--jobs",
    )


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
