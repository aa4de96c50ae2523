"""Programs that run in a workroot, and records of what they did."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compose.limits import signal_name

# of a terminal: colours, movements of the cursor
_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program to run in a workroot.

    owner: "package:NEVRA", "step:NAME" or "treefile:...". phase: "%post", "%transfiletriggerin", "dracut", ... argv: the
    program and its arguments; paths are those in the workroot. body: text of a script, "" for none; it is written to a file
    whose path replaces "{script}" in argv. stdin: empty for /dev/null. lua: run body in librpm's Lua interpreter, with argv as
    the `arg` table. expand: expand librpm's macros in body first. header: of the package whose tags are then expanded in body
    as by `rpm --query --queryformat`; empty to expand none. macros: (name, body), for Lua and expand, in addition to those of
    the workroot's rpm. environment: added to the sandbox's fixed one. timeout: seconds until the whole process group is killed.
    """

    owner: str
    phase: str
    argv: tuple[str, ...]
    body: str = ""
    stdin: bytes = b""
    lua: bool = False
    expand: bool = False
    header: bytes = b""
    macros: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    timeout: float = 600.0


def dated(when: int) -> tuple[tuple[str, str], ...]:
    """Environment of a program whose files get another time than the compose's. when: seconds since 1970."""
    return (("SOURCE_DATE_EPOCH", str(when)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRecord:
    """What a program did.

    status: exit status, or minus the signal number, as in subprocess. timed_out: it was killed because of its timeout.
    seconds: wall time, 0 if its result came from the cache. output: stdout and stderr combined, decoded with replacement
    characters, at most the last 64 KiB. changed: paths it created, changed or removed, relative and sorted.
    """

    program: Program
    status: int
    timed_out: bool
    seconds: float
    output: str
    changed: tuple[str, ...] = ()

    @property
    def failure(self) -> str:
        """How the program failed, to follow its name: "failed with status 1"; "" if it succeeded."""
        if self.timed_out:
            return f"was stopped after {self.program.timeout:.0f} s"
        if self.status < 0:
            return f"was killed by {signal_name(-self.status)}"
        return f"failed with status {self.status}" if self.status else ""

    @property
    def lines(self) -> list[str]:
        """The output for a log: lines that are not blank, without colours and movements of a terminal's cursor."""
        return [line for each in _CONTROL_SEQUENCE.sub("", self.output).splitlines() if (line := each.rstrip())]
