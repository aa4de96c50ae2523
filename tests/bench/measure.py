"""Measuring a program as a whole process, and the physical floors of the machine it ran on."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from compose.ostree.deflate import Deflater


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """wall, cpu: seconds (cpu: user and system of the program and its children). rss: of its largest process, MB."""

    wall: float
    cpu: float
    rss: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(wall=self.wall + other.wall, cpu=self.cpu + other.cpu, rss=max(self.rss, other.rss))


def measure(argv: Sequence[str | Path], *, environment: dict[str, str] | None = None) -> Cost:
    """Run a program to its end. Raises RuntimeError with its output when it fails."""
    log = subprocess.PIPE
    begun = time.monotonic()
    # wait4() gives the usage of this child alone; subprocess would lose it
    process = subprocess.Popen(
        [str(word) for word in argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, **(environment or {})),
    )
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - begun
    if process.returncode:
        raise RuntimeError(f"{argv[0]} failed with status {process.returncode}:\n{output.decode(errors='replace')}")
    return Cost(wall=wall, cpu=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss / 1024)


def size_of(directory: Path) -> int:
    """Sum of file sizes, bytes."""
    return sum(os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(directory) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What no writer of these files can go below on this machine, measured in the run: seconds with all cores at work.

    hash: sha256 of all bytes. deflate: raw deflate of all bytes by the fastest codec here that is as dense as zlib's
    level 6. create: one file per object. store: the bytes that are left after deflate, written and synced.
    """

    hash: float
    deflate: float
    create: float
    store: float

    def figures(self) -> dict[str, float]:
        """As a row of bench.json has them."""
        return {key: round(value, 2) for key, value in asdict(self).items()}


def floor(files: Sequence[Path], scratch: Path, cores: int, *, deflated: bool) -> Floor:
    """Measure hash and deflate rates on a sample of the files, create and store rates on scratch's filesystem."""
    total = sum(path.stat().st_size for path in files)
    # whole files, as a writer would see them
    sample = [path.read_bytes()[: 4 << 20] for path in files[:: max(1, len(files) // 1000)]]
    size = sum(len(each) for each in sample)
    deflater = Deflater(None)
    begun = time.monotonic()
    for each in sample:
        hashlib.sha256(each).digest()
    hashed = time.monotonic()
    packed = sum(len(deflater.compress(each)) for each in sample) if deflated else size
    deflate_end = time.monotonic()
    count = 2000
    scratch.mkdir(parents=True)
    for number in range(count):
        os.close(os.open(scratch / str(number), os.O_WRONLY | os.O_CREAT, 0o644))
    created = time.monotonic()
    with open(scratch / "stored", "wb") as file:
        file.write(os.urandom(1 << 20) * 64)
        file.flush()
        os.fsync(file.fileno())
    stored = time.monotonic()
    shutil.rmtree(scratch)
    share = total / max(1, size)
    return Floor(
        hash=(hashed - begun) * share / cores,
        deflate=(deflate_end - hashed) * share / cores,
        create=(created - deflate_end) / count * len(files) / cores,
        store=(stored - created) / (64 << 20) * packed * share,
    )
