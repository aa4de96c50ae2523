"""The same commit on a host with other versions of what a compose uses (tests/toolbox/another-host.sh)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from compose.bindings import versions
from tests.e2e.whole import Whole

pytestmark = [pytest.mark.root, pytest.mark.universe]
TOOLBOX = Path(__file__).parents[1] / "toolbox/toolbox.sh"
ANOTHER = {"TOOLBOX_SUITE": "trixie", "TOOLBOX_NATIVE": "0"}

# Beside those that compose tells, what has no version in Python.
TELL = """
import ctypes, json, os, zlib
import zstandard
from compose.bindings import versions

def library(soname):
    try:
        return ctypes.CDLL(soname)
    except OSError:
        return None

lzma_version = library("liblzma.so.5").lzma_version_string
lzma_version.restype = ctypes.c_char_p
print(json.dumps(versions() | {
    "libc": os.confstr("CS_GNU_LIBC_VERSION"),
    "liblzma": lzma_version().decode(),
    "libdeflate": "there" if library("libdeflate.so.0") else "none",
    "libsolv": (ctypes.c_char * 32).in_dll(library("libsolv.so.1"), "solv_version").value.decode(),
    "zlib": zlib.ZLIB_RUNTIME_VERSION,
    "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
}))
"""
# Two hosts that do not differ in all of these show nothing.
MATTER = ("librpm", "SQLite", "libselinux", "libsolv", "libc", "zlib")


def told(command: Sequence[str]) -> dict[str, str]:
    done = subprocess.run([*command, "-c", TELL], check=False, capture_output=True, text=True, env=os.environ | ANOTHER)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def another() -> list[str]:
    """A command before words of Python's on the other host."""
    path = subprocess.run([TOOLBOX, "path"], check=True, capture_output=True, text=True, env=os.environ | ANOTHER)
    if not Path(path.stdout.strip(), ".compose-toolbox").exists():
        pytest.skip("make repro makes the other host, where there is apt")
    return [str(TOOLBOX), "run", "python3"]


@pytest.mark.parametrize(
    "name", [pytest.param("min", marks=pytest.mark.slow), pytest.param("big", marks=pytest.mark.repro)]
)
def test_it_makes_the_same_commit(
    name: str, whole_sets: Callable[[str], Whole], another: list[str], tmp_path: Path
) -> None:
    base = whole_sets(name)
    here, there = told([sys.executable]), told(another)
    for each in here:
        print(f"{each:12} {here[each]:12} {there[each]:12}")
    assert not [each for each in MATTER if here[each] == there[each]]

    verify = ["-m", "compose", "verify", str(base.result.commit), f"--repo={base.top}/repo", f"--cachedir={tmp_path}"]
    done = subprocess.run([*another, *verify], check=False, capture_output=True, text=True, env=os.environ | ANOTHER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{base.result.commit}: composed again, the same\n" == done.stdout
    for each in versions():
        assert here[each] == there[each] or f"{each} {here[each]}, here {there[each]}" in done.stderr
