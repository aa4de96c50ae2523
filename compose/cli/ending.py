"""How a command ends: exit codes and messages for errors and signals."""

from __future__ import annotations

import os

from compose import fs
from compose.errors import ComposeError, SandboxError, UsageError
from compose.limits import LIMITS, LIMITS_HINT, signal_name

BUG = 1
"""Exit code for an unexpected exception."""


class Interrupted(BaseException):
    """SIGINT, SIGTERM, SIGHUP or, of standard output, SIGPIPE: unwinds everything, so that every context manager cleans up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def limited(error: BaseException) -> ComposeError | None:
    """The error to report for an exception caused by a resource limit of the machine, by its disk, or because the current
    directory is gone; None for other exceptions."""
    match error:
        case ComposeError():
            return None
        case FileNotFoundError() if error.filename is None and _nowhere():
            return UsageError("the current directory was removed", hint="change to one that exists")
        case OSError() if error.errno in fs.DISK_ERRORS:
            return fs.storage_error(error.filename if isinstance(error.filename, str) else "to the disk", error)
        case OSError() if error.errno in LIMITS:
            text = error.strerror
        case RuntimeError() if "can't start new thread" in str(error):
            text = "no more threads"
        case MemoryError():
            text = "no more memory"
        case _:
            return None
    return SandboxError(f"a resource limit of this machine is reached: {text}", hint=LIMITS_HINT)


def _nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def exit_code_of(error: BaseException) -> int:
    """Exit code for an error (see compose.errors), or 128 + number for a signal."""
    if isinstance(error, ComposeError):
        return error.exit_code
    return 128 + error.number if isinstance(error, Interrupted) else BUG


def message_of(error: BaseException) -> str:
    """One sentence on an error or signal."""
    if isinstance(error, ComposeError):
        return error.message
    if isinstance(error, Interrupted):
        return f"interrupted by {signal_name(error.number)}"
    return f"{type(error).__name__}: {error}"


def describe(error: ComposeError | Interrupted) -> str:
    """The text to print: message, indented details, and hint. Safe for a terminal."""
    lines = [f"error: {message_of(error)}"]
    if isinstance(error, ComposeError):
        lines += [f"  {line}" for line in error.details]
        if error.hint:
            lines.append(f"hint: {error.hint}")
    return "\n".join(map(visible, lines))


def visible(text: str) -> str:
    """Escape what terminals and GitLab's logs obey, such as escape sequences: text may come from packages and their programs.
    Only tabs and newlines stay; a line after the first is indented, so that it does not look like another message."""
    if text.isprintable():
        return text
    shown = "".join(each if each.isprintable() or each in "\n\t" else repr(each)[1:-1] for each in text)
    return shown.replace("\n", "\n    ")
