"""Values with their place in the source.

Every value, at any depth, is a `Located`: a value and its file:line:column. Dictionaries map plain strings to Located, and
lists contain Located.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a file. line, column: counted from 1; 0 if only the file is known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Located:
    """A value and its place. value: str, bool, int, float, None, list of Located, or dict of str to Located. place: where the
    value begins; for a member of a dictionary, where its key begins."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: member.plain() for key, member in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def at(self, path: Iterator[str | int]) -> Located:
        """The value at a path of keys and indices, or the deepest one on the way that exists."""
        here = self
        for step in path:
            inside: Any = here.value
            if isinstance(inside, dict) and step in inside:
                here = inside[step]
            elif isinstance(inside, list) and isinstance(step, int) and step < len(inside):
                here = inside[step]
            else:
                break
        return here


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A warning about a treefile that loads. rule: of the linter that reports it too."""

    place: Place
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class SourceFault(Exception):
    """A file that cannot be parsed: place and reason."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message


def type_name(value: Any) -> str:
    """The type of a plain value, in the words of error messages."""
    if value is None:
        return "nothing"
    for kind, name in (
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number"),
        (str, "text"),
        (list, "a list"),
    ):
        if isinstance(value, kind):
            return name
    return "a mapping"
