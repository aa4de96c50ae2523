"""Measuring a program with all its processes, and the physical floors of the machine it ran on."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from compose.ostree.deflate import Deflater

Result = TypeVar("Result")

CORES = len(os.sched_getaffinity(0))
ROUNDS = 2
"""How often what takes long is measured, on either side."""
_STORED = 256
"""MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """wall, cpu: seconds (cpu: user and system of the program and its children). rss: of its largest process; together: of
    all its processes at once, shared pages counted once, looked at four times a second. Both MB."""

    wall: float
    cpu: float
    rss: float
    together: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            wall=self.wall + other.wall,
            cpu=self.cpu + other.cpu,
            rss=max(self.rss, other.rss),
            together=max(self.together, other.together),
        )

    def figures(self) -> dict[str, float]:
        """As a row of bench.json has them."""
        return {
            "wall": round(self.wall, 3),
            "cpu": round(self.cpu, 3),
            "peak_rss_mb": round(self.rss),
            "peak_together_mb": round(self.together),
        }


def measure(argv: Sequence[str | Path], *, cwd: Path | None = None) -> Cost:
    """Run a program to its end. Raises RuntimeError with its output when it fails."""
    launcher = Path(__file__).with_name("launch.py")
    with tempfile.NamedTemporaryFile() as out:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(launcher), out.name, *map(str, argv)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            check=False,
        )
        if done.returncode:
            text = done.stdout.decode(errors="replace")
            raise RuntimeError(f"{argv[0]} failed with status {done.returncode}:\n{text}")
        return Cost(**json.loads(Path(out.name).read_bytes()))


def size_of(directory: Path) -> int:
    """Sum of file sizes, bytes."""
    return sum(os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(directory) for name in names)


def without_journal(directory: Path) -> bool:
    """Is it on ext4 that has no journal?"""
    device = directory.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, filesystem = line.partition(" - ")
        kind, source, *_ = filesystem.split()
        if mount.split()[2] == number and kind == "ext4":
            return not list(Path("/proc/fs/jbd2").glob(f"{os.path.basename(source)}-*"))
    return False


def best(runs: Iterable[tuple[Cost, Result]]) -> tuple[Cost, Result]:
    """The quickest of several runs, and what came of it: what else the machine did can only have made them slower. Its memory
    is the most that any of them took."""
    all_runs = list(runs)
    cost, result = min(all_runs, key=lambda run: run[0].wall)
    rss, together = max(each.rss for each, _ in all_runs), max(each.together for each, _ in all_runs)
    return replace(cost, rss=rss, together=together), result


def regular_files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]


def exponent(points: Iterable[tuple[float, float]]) -> float:
    """Of a power law through (size, cost), fitted by least squares: 0 is constant, 1 linear, 2 quadratic."""
    logs = [(math.log(size), math.log(max(cost, 1e-6))) for size, cost in points]
    x, y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    return round(sum((a - x) * (b - y) for a, b in logs) / sum((a - x) ** 2 for a, _ in logs), 3)


class Rates:
    """What this machine can do, measured when first asked for: bytes or files in a second.

    hash: sha256 on one core. deflate: raw deflate on one core, by the fastest codec here that is as dense as zlib's level 6;
    dense: what it leaves of a byte. create: files made on one core. store: bytes written and synced, past the page cache
    where that is quicker. All but store on a sample of the files of a real tree.
    """

    def __init__(self, files: Callable[[], Sequence[Path]], scratch: Path) -> None:
        self._files = files
        self._scratch = scratch

    @cached_property
    def _sample(self) -> list[bytes]:
        # whole files, as a writer would see them
        files = self._files()
        return [path.read_bytes()[: 4 << 20] for path in files[:: max(1, len(files) // 1000)]]

    @cached_property
    def _size(self) -> int:
        return sum(map(len, self._sample))

    @cached_property
    def hash(self) -> float:
        sample = self._sample
        begun = time.monotonic()
        for each in sample:
            hashlib.sha256(each).digest()
        return self._size / (time.monotonic() - begun)

    @cached_property
    def _deflated(self) -> tuple[float, float]:
        sample, deflater = self._sample, Deflater(None)
        begun = time.monotonic()
        packed = sum(len(deflater.compress(each)) for each in sample)
        return self._size / (time.monotonic() - begun), packed / self._size

    @property
    def deflate(self) -> float:
        return self._deflated[0]

    @property
    def dense(self) -> float:
        return self._deflated[1]

    @cached_property
    def create(self) -> float:
        count = 5000
        self._scratch.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        for number in range(count):
            os.close(os.open(self._scratch / str(number), os.O_WRONLY | os.O_CREAT, 0o644))
        spent = time.monotonic() - begun
        return count / spent

    @cached_property
    def store(self) -> float:
        rates = [self._stored(0)]
        # not every filesystem knows it
        with suppress(OSError):
            rates.append(self._stored(os.O_DIRECT))
        return max(rates)

    def _stored(self, flag: int) -> float:
        """flag: of open(2)."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._scratch / "stored", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flag, 0o644)
        try:
            with mmap.mmap(-1, 1 << 20) as block:
                block.write(os.urandom(len(block)))
                os.sync()
                begun = time.monotonic()
                for _ in range(_STORED):
                    os.write(fd, block)
                os.fsync(fd)
                return _STORED * len(block) / (time.monotonic() - begun)
        finally:
            os.close(fd)

    def floor(
        self, *, hashed: float = 0, deflated: float = 0, created: float = 0, stored: float = 0
    ) -> dict[str, float]:
        """Seconds below which no program can go that does this much: bytes, bytes, files, bytes. total: what all cores need
        together, or the disk if that is longer."""
        parts = {
            "hash": hashed / self.hash / CORES if hashed else 0.0,
            "deflate": deflated / self.deflate / CORES if deflated else 0.0,
            "create": created / self.create / CORES if created else 0.0,
            "store": stored / self.store if stored else 0.0,
        }
        total = max(parts["hash"] + parts["deflate"] + parts["create"], parts["store"])
        return {name: round(seconds, 3) for name, seconds in {**parts, "total": total}.items()}


def row(
    name: str,
    ours: Cost,
    peer: Cost,
    floor: dict[str, float],
    *,
    of_ours: Mapping[str, object] | None = None,
    of_peer: Mapping[str, object] | None = None,
    **more: object,
) -> dict[str, object]:
    """A row of bench.json. of_ours, of_peer: what is added to theirs. more: what stands beside."""
    return {
        "name": name,
        "ours": {**ours.figures(), **(of_ours or {})},
        "peer": {**peer.figures(), **(of_peer or {})},
        "ratio_wall": round(peer.wall / ours.wall, 2),
        "ratio_cpu": round(peer.cpu / ours.cpu, 2),
        "floor": floor,
        "above_floor": round(ours.wall / floor["total"], 2) if floor["total"] else None,
        **more,
    }
