"""Values that know where they stand.

Every value, however deep, is a `Located`: what it is, and file:line:column. Dictionaries map plain strings to Located,
lists hold Located.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """line and column count from 1; 0 when only the file is known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Located:
    """value: str, bool, int, float, None, list of Located, or dict of str to Located. place: where it begins; of a
    dictionary's member, where its key stands."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: each.plain() for key, each in self.value.items()}
        if isinstance(self.value, list):
            return [each.plain() for each in self.value]
        return self.value

    def at(self, path: Iterator[str | int]) -> Located:
        """The value a path of keys and indices leads to, or the last one on the way that exists."""
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


class SourceFault(Exception):
    """The text cannot be read; place and what is wrong."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message


def type_name(value: Any) -> str:
    """What a user calls the type of a plain value."""
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
