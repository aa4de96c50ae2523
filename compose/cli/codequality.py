"""Code Climate reports, which GitLab shows beside the lines of a merge request (docs.gitlab.com, "Code Quality")."""

from __future__ import annotations

from collections.abc import Mapping

from compose import fs
from compose.cli.places import Place, faults_of, in_project, place_in
from compose.cli.reporter import CommandReporter
from compose.findings import Level, Result, to_codequality


class CodeQuality(CommandReporter):
    """Collects warnings and errors that name a line, for --write-codequality-to."""

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment
        self._found: list[tuple[Level, Result]] = []

    def warn(self, message: str) -> None:
        self._add(Level.WARNING, message, place_in(message))

    def failed(self, error: BaseException) -> None:
        for message, place in faults_of(error):
            self._add(Level.ERROR, message, place)

    def _add(self, level: Level, message: str, place: Place | None) -> None:
        if place is not None:
            path = in_project(place.file, self._environment)
            self._found.append((level, Result(rule=f"compose-{level}", message=message, path=path, line=place.line)))

    def write(self) -> None:
        """Raises StorageError."""
        fs.atomic_write(self._path, to_codequality(self._found).encode())
