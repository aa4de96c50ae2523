"""Memory available for more processes: of the machine, and within the limits of this process's control groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compose.events import Reporter


def fitting(jobs: int, each: int, what: str, reporter: Reporter) -> int:
    """Reduce a number of processes to those that fit into memory, at least one. each: bytes of one. what: "Importing", for the
    log."""
    free = available()
    if free is None:
        return jobs
    count = max(1, min(jobs, free // each))
    if count < jobs:
        reporter.info(f"{what} with {count} of {jobs} processes, because only {free / 1e6:.0f} MB of memory are free")
    return count


def available(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that can be allocated without swapping or being killed; None if unknown. Page cache counts as free.

    The minimum of MemAvailable in /proc/meminfo and what is left in this process's control group and each of its parents
    (memory.max of cgroup v2, memory.limit_in_bytes of v1).
    """
    found = [*_machine(proc), *_groups(proc, cgroups)]
    return min(found) if found else None


def _machine(proc: Path) -> Iterator[int]:
    for line in _lines(proc / "meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield int(rest.split()[0]) * 1024


def _groups(proc: Path, cgroups: Path) -> Iterator[int]:
    for line in _lines(proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, usage, cache = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage, cache = (
                cgroups / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        group = top / path.lstrip("/")
        for each in (group, *group.parents):
            most, used = _number(each / limit), _number(each / usage)
            if most is not None and used is not None:
                yield max(0, most - used + _reclaimable(each, cache))
            if each == top:
                break


def _reclaimable(group: Path, key: str) -> int:
    for line in _lines(group / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    """None for a missing file and for "max"."""
    text = "".join(_lines(path))
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        # names of groups need not be UTF-8
        text = path.read_text(errors="surrogateescape")
    except OSError:
        return []
    # and may have characters such as U+2028, at which splitlines() splits
    return [line for line in text.split("\n") if line]
