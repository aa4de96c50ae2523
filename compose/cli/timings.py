"""--timings: a table of where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compose.pipeline.timings import Timings
    from compose.process import Program

_SHOWN = 10
_MIN_SECONDS = 0.01
"""Shorter times are left out; programs whose recorded effects were reused take none."""


def table(timings: Timings) -> str:
    """Stages, then the programs and packages that took longest, without negligible ones."""
    total = sum(seconds for _, seconds in timings.stages)
    usage = timings.usage
    peak = max(usage.own_peak, usage.children_peak) / 1e6
    parts = [
        _rows("seconds  stage", timings.stages),
        f"{total:7.2f}  in all; {usage.own_cpu:.1f} s of CPU here and {usage.children_cpu:.1f} s in programs; "
        f"{peak:.0f} MB in the largest process\n",
    ]
    programs = [(_name(stage, each.program), each.seconds) for stage, each in timings.programs]
    parts += [_rows("seconds  program", _longest(programs)), _rows("seconds  package", _longest(timings.packages))]
    return "\n".join(part for part in parts if part)


def _name(stage: str, program: Program) -> str:
    return f"{program.phase} of {program.owner.partition(':')[2] or program.owner} ({stage})"


def _longest(rows: Sequence[tuple[str, float]]) -> Sequence[tuple[str, float]]:
    return [row for row in rows[:_SHOWN] if row[1] >= _MIN_SECONDS]


def _rows(title: str, rows: Sequence[tuple[str, float]]) -> str:
    return (
        "".join(f"{line}\n" for line in (title, *(f"{seconds:7.2f}  {name}" for name, seconds in rows))) if rows else ""
    )
