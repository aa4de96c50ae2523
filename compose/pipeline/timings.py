"""Resources that a compose used: wall time by stage, program and package; CPU time and memory."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compose.process import ProgramRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Totals from getrusage(2). cpu: seconds of user and system time. peak: bytes of the largest process.

    own: of this process. children: of its terminated and waited-for descendants. The peak of a child is at least the
    memory that its parent had when it was started.
    """

    own_cpu: float
    children_cpu: float
    own_peak: int
    children_peak: int

    @classmethod
    def now(cls) -> Usage:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return cls(
            own_cpu=own.ru_utime + own.ru_stime,
            children_cpu=children.ru_utime + children.ru_stime,
            own_peak=own.ru_maxrss * 1024,
            children_peak=children.ru_maxrss * 1024,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Timings of a compose. stages: (name, wall seconds), in order. programs: (stage, program), longest first."""

    stages: tuple[tuple[str, float], ...]
    programs: tuple[tuple[str, ProgramRecord], ...]
    usage: Usage

    @property
    def packages(self) -> tuple[tuple[str, float], ...]:
        """(NEVRA, wall seconds of all its scriptlets), longest first."""
        total: dict[str, float] = {}
        for _, each in self.programs:
            kind, _, name = each.program.owner.partition(":")
            if kind == "scriptlet":
                total[name] = total.get(name, 0.0) + each.seconds
        return tuple(sorted(total.items(), key=lambda row: (-row[1], row[0])))

    def document(self) -> dict[str, Any]:
        """The JSON document of --write-timings-to."""
        return {
            "stages": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in self.stages],
            "packages": [{"package": name, "seconds": round(seconds, 3)} for name, seconds in self.packages],
            "programs": [
                {
                    "stage": stage,
                    "owner": each.program.owner,
                    "phase": each.program.phase,
                    "seconds": round(each.seconds, 3),
                }
                for stage, each in self.programs
            ],
            **usage_document(self.usage),
        }


def timings(stages: Sequence[tuple[str, float]], records: Iterable[tuple[str, ProgramRecord]]) -> Timings:
    """The timings of a compose that ends now. records: (stage, program)."""
    programs = sorted(records, key=lambda row: -row[1].seconds)
    return Timings(stages=tuple(stages), programs=tuple(programs), usage=Usage.now())


def usage_document(usage: Usage) -> dict[str, Any]:
    """The usage as JSON, for --write-timings-to and --write-composejson-to."""
    return {
        "cpu-seconds": {"own": round(usage.own_cpu, 3), "children": round(usage.children_cpu, 3)},
        "peak-rss": {"own": usage.own_peak, "children": usage.children_peak},
    }
