"""Run a program and say what it took: a small process between the bench and it, `python3 launch.py OUT PROGRAM ARGUMENT...`.

The kernel counts for a child at least what its parent held when it was started; this parent holds next to nothing.
"""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress

_SAMPLE_EVERY = 0.25


def main() -> int:
    """OUT gets JSON: wall, cpu (seconds), rss (of the largest process), together (of all at once): MB. Returns its status."""
    out, *argv = sys.argv[1:]
    begun = time.monotonic()
    # wait4() gives the usage of this child alone; subprocess would lose it
    process = subprocess.Popen(argv)
    over, peak = threading.Event(), [0.0]

    def watch() -> None:
        while not over.wait(_SAMPLE_EVERY):
            peak[0] = max(peak[0], sum(map(_memory_of, _descendants(process.pid))))

    sampler = threading.Thread(target=watch)
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - begun
    over.set()
    sampler.join()
    rss = usage.ru_maxrss / 1024
    figures = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": rss, "together": max(rss, peak[0])}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(figures, file)
    return process.returncode


def _descendants(pid: int) -> set[int]:
    """A process and all below it."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                # the name in parentheses may hold anything
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found


def _memory_of(pid: int) -> float:
    """Proportional set size, MB: what it shares with others counts in part."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
