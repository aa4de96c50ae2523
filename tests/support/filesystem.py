"""Small filesystems of other kinds than the machine's, mounted for a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# the least that mkfs takes, where it wants more than is asked for; sparse files
_LEAST = {"xfs": 320 << 20, "btrfs": 128 << 20}


@contextmanager
def mounted(kind: str, place: Path, size: int = 256 << 20, *, options: str = "") -> Iterator[Path]:
    """A new filesystem, "tmpfs", "ramfs" or what mkfs makes in a file beside it, on a directory made for it. size: bytes, of
    all but ramfs, which has no limit.

    Skips the test where the machine lacks mkfs or the filesystem (make test brings what is needed).
    """
    place.mkdir(parents=True)
    image = place.with_name(place.name + ".img")
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},{options or 'rw'}", "tmpfs", str(place)]
    elif kind == "ramfs":
        command = ["mount", "-t", "ramfs", "ramfs", str(place)]
    else:
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"there is no mkfs.{kind}")
        with image.open("wb") as file:
            file.truncate(max(size, _LEAST.get(kind, 0)))
        subprocess.run([f"mkfs.{kind}", image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        command = ["mount", "-t", kind, "-o", f"loop,{options or 'rw'}", str(image), str(place)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount {kind} here: {done.stderr}")
    try:
        yield place
    finally:
        os.sync()
        subprocess.run(["umount", "-l", place], check=True)
        image.unlink(missing_ok=True)
