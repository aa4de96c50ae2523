"""GitHub Actions, as documented at docs.github.com under "Workflow commands for GitHub Actions".

Workflow commands in the log (::error file=...,line=...::, ::group::) become annotations and folded groups, markdown in the file
$GITHUB_STEP_SUMMARY the summary page of the run, and NAME=VALUE lines in $GITHUB_OUTPUT the outputs that later steps can read.

A runner obeys everything in the log that looks like a command, including scriptlet output and changelogs; harmless()
escapes it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, TextIO, cast

from compose.cli import markdown
from compose.cli.ending import Interrupted, message_of
from compose.cli.places import Place, faults_of, in_project, place_in
from compose.cli.progress import PlainReporter
from compose.errors import ComposeError

# GitHub drops a step's summary entirely if it is larger than 1 MiB
_SUMMARY_LIMIT = 1_000_000
# "::name" after blanks, "##[name" anywhere (actions/runner, ActionCommand.cs); a carriage return also ends a line
_COMMAND = re.compile(r"(?<![^\r\n])[^\S\r\n]*:(?=:)|##(?=\[)")
_OUTPUTS = ("ref", "commit", "version")
_CUT = "\n\n*Truncated: GitHub limits summaries to 1 MiB.*\n"


def harmless(text: str) -> str:
    """Escape, with a backslash, what a runner would take for a command."""
    return _COMMAND.sub(lambda match: match[0] + "\\", text)


def harmless_log(stream: TextIO) -> TextIO:
    """A stream that escapes its text; a regular file is returned unchanged, since no runner reads it."""
    return stream if _is_file(stream) else cast(TextIO, _Harmless(stream))


class _Harmless:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(harmless(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


class GitHubReporter(PlainReporter):
    """Shows stages as groups of the log, warnings and errors as annotations."""

    def __init__(self, environment: Mapping[str, str], stream: IO[str] | None = None) -> None:
        # sys.stderr would escape the commands
        super().__init__(stream or sys.__stderr__)
        self._environment = environment
        self._summary = environment.get("GITHUB_STEP_SUMMARY")
        self._output = environment.get("GITHUB_OUTPUT")

    def line(self, text: str) -> None:
        super().line(harmless(text))

    def stage_begun(self, name: str) -> None:
        self.raw(f"::group::{name}")

    def stage_ended(self, name: str, seconds: float, *, failed: bool) -> None:
        super().stage_ended(name, seconds, failed=failed)
        self.raw("::endgroup::")

    def warn(self, message: str) -> None:
        self.annotate("warning", message, place_in(message))

    def result(self, outcome: str, **facts: Any) -> None:
        rows = {"outcome": outcome, **{name: facts[name] for name in _OUTPUTS if facts.get(name) is not None}}
        # a value of several lines would set further outputs
        lines = [f"{name}={value}\n" for name, value in rows.items() if len(str(value).splitlines()) == 1]
        if self._output:
            self._append(self._output, "".join(lines).encode(errors="backslashreplace"))

    def failed(self, error: BaseException) -> None:
        for message, place in faults_of(error):
            self.annotate("error", message, place)
        self.summarise(_failure(error))

    def annotate(self, level: str, message: str, place: Place | None) -> None:
        """level: "error", "warning" or "notice"."""
        properties = {"title": "compose"}
        if place is not None:
            properties |= {"file": in_project(place.file, self._environment), "line": str(place.line)}
            if place.column is not None:
                properties["col"] = str(place.column)
        fields = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
        self.raw(f"::{level} {fields}::{_data(message)}")

    def summarise(self, lines: Sequence[str]) -> None:
        if not self._summary:
            return
        data = ("\n".join(lines) + "\n\n").encode(errors="backslashreplace")
        room = _SUMMARY_LIMIT - (os.path.getsize(self._summary) if os.path.exists(self._summary) else 0)
        if len(data) > room:
            data = data[: max(0, room)].decode(errors="ignore").encode() + _CUT.encode()
        self._append(self._summary, data)

    def _append(self, path: str, data: bytes) -> None:
        try:
            with open(path, "ab") as file:
                file.write(data)
        except OSError as error:
            self.line(f"warning: cannot write to {path}: {error.strerror}")


def _failure(error: BaseException) -> list[str]:
    if isinstance(error, Interrupted):
        return [f"## compose: {message_of(error)}"]
    lines = ["## compose failed", "", *markdown.fenced([message_of(error)])]
    if isinstance(error, ComposeError):
        if error.details:
            lines += ["", *markdown.folded("details", markdown.fenced(error.details))]
        if error.hint:
            lines += ["", f"What to do: {markdown.code(error.hint)}"]
    return lines


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
