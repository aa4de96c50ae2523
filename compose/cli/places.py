"""File positions named in messages, for services that show a message beside the line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compose.cli.ending import message_of
from compose.errors import ComposeError

# FILE:LINE or FILE:LINE:COLUMN, as in errors, warnings and the solver's chains; only at the start can a name have blanks
_REST = r":(?P<line>\d+)(?::(?P<column>\d+))?(?=[:),\s]|$)"
_FIRST = re.compile(rf"(?P<file>[^:\n]+){_REST}")
_PLACE = re.compile(rf"(?:(?<=^)|(?<=[\s(]))(?P<file>[^\s:()][^\s:]*){_REST}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A position in an existing file. line, column: from 1; column None if only the line is known."""

    file: str
    line: int
    column: int | None = None


def place_in(text: str) -> Place | None:
    """The first position named in a text."""
    for match in (_FIRST.match(text), *_PLACE.finditer(text)):
        # "host:8080" and "1:2.0" look alike
        if match is not None and os.path.isfile(match["file"]):
            column = match["column"]
            return Place(file=match["file"], line=int(match["line"]), column=int(column) if column else None)
    return None


def faults_of(error: BaseException) -> Iterator[tuple[str, Place | None]]:
    """Messages with their positions: one for each fault if there are several, otherwise one at the first position named."""
    details = error.details if isinstance(error, ComposeError) else ()
    places = [place_in(line) if not line.startswith(" ") else None for line in details]
    if details and all(places):
        yield from zip(details, places, strict=True)
        return
    text = "\n".join((message_of(error), *details))
    yield text, place_in(text)


def in_project(path: str, environment: Mapping[str, str]) -> str:
    """The path relative to the checkout, as code hosts name files; unchanged if outside the checkout."""
    root = environment.get("GITHUB_WORKSPACE") or environment.get("CI_PROJECT_DIR") or os.getcwd()
    found = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    return path if found.startswith("../") else found
