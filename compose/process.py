"""Programs: what is run, and the record of it. Only this module and `sandbox` start processes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program to run in a workroot.

    owner: "package:NEVRA" or "step:NAME" or "treefile:..."; phase: "%post", "%transfiletriggerin", "dracut", ...
    argv: the program and its arguments, paths of the workroot. body: script text, made available to the program as a
    file whose path takes the place of the argument "{script}" in argv; "" for none. stdin: bytes to feed, empty for
    /dev/null. lua: argv is the `arg` table and body runs in librpm's Lua interpreter instead of a process of its own.
    expand: librpm's macros in body are expanded first. header: of the package whose tags body then names, as
    `rpm --query --queryformat` takes it; empty for a body without. macros: (name, body) that Lua and expand see besides
    those of the root's own rpm.
    environment: on top of the sandbox's fixed one. timeout: seconds until the whole process group is killed.
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
    """The environment of a program whose files are of another time than the compose. when: seconds since 1970."""
    return (("SOURCE_DATE_EPOCH", str(when)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRecord:
    """What a program did.

    status: exit status, or minus the signal number, as subprocess has it. timed_out: killed for its time limit.
    seconds: wall time, 0 for what was not run but remembered. output: stdout and stderr as they came, decoded with
    replacement, at most the last 64 KiB.
    changed: paths it made, changed or removed, relative and sorted.
    """

    program: Program
    status: int
    timed_out: bool
    seconds: float
    output: str
    changed: tuple[str, ...] = field(default=())
