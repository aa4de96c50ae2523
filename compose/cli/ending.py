"""How a command ends: exit codes of errors and of signals, and what is said."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from compose.errors import ComposeError

BUG = 1
"""Exit code of an exception that nobody meant."""

# FILE:LINE or FILE:LINE:COLUMN, as errors, warnings and the solver's chains have it
_PLACE = re.compile(r"(?:(?<=^)|(?<=[\s(]))(?P<file>[^\s:()][^\s:]*):(?P<line>\d+)(?::(?P<column>\d+))?(?=[:),\s]|$)")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Of a file that exists. line, column: from 1; column None when only the line is known."""

    file: str
    line: int
    column: int | None = None


def place_in(text: str) -> Place | None:
    """The first place that a text names."""
    for match in _PLACE.finditer(text):
        # "host:8080" and "1:2.0" look alike
        if os.path.isfile(match["file"]):
            column = match["column"]
            return Place(file=match["file"], line=int(match["line"]), column=int(column) if column else None)
    return None


def faults_of(error: BaseException) -> Iterator[tuple[str, Place | None]]:
    """What is to be shown beside the lines: each of several faults at its own, else all at the first place named."""
    details = error.details if isinstance(error, ComposeError) else ()
    places = [place_in(line) if not line.startswith(" ") else None for line in details]
    if details and all(places):
        yield from zip(details, places, strict=True)
        return
    text = "\n".join((message_of(error), *details))
    yield text, place_in(text)
