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
from tests.e2e import tiny
from tests.e2e.test_fedora import ARCH, compose
from tests.e2e.whole import Whole
from tests.fedora.build import Fedora, build
from tests.support.rpmrepo import Keys

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


def tell(command: Sequence[str]) -> dict[str, str]:
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


@pytest.fixture(scope="module")
def fedora(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Fedora:
    """In the format of RPM 4, as Fedora's own: librpm 4 does not read the other's signatures."""
    home = tmp_path_factory.mktemp("home")
    (home / ".rpmmacros").write_text("%_rpmformat 4\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        return build(tmp_path_factory.mktemp("fedora") / "small", keys, tiny.SIGNER, ARCH)


def verified(another: Sequence[str], commit: str, repo: Path, cachedir: Path) -> str:
    """What is told while another host composes a commit again, the same."""
    command = [*another, "-m", "compose", "verify", commit, f"--repo={repo}", f"--cachedir={cachedir}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | ANOTHER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{commit}: reproduced\n"
    return done.stderr


@pytest.mark.parametrize(
    "name", [pytest.param("min", marks=pytest.mark.slow), pytest.param("big", marks=pytest.mark.repro)]
)
def test_it_makes_the_same_commit(
    name: str, whole_sets: Callable[[str], Whole], another: list[str], tmp_path: Path
) -> None:
    base = whole_sets(name)
    here, there = tell([sys.executable]), tell(another)
    for each in here:
        print(f"{each:12} {here[each]:12} {there[each]:12}")
    assert not [each for each in MATTER if here[each] == there[each]]

    told = verified(another, str(base.result.commit), base.top / "repo", tmp_path)
    for each in versions():
        assert here[each] == there[each] or f"{each} {here[each]}, here {there[each]}" in told


@pytest.mark.repro
@pytest.mark.parametrize("treefile", ["fedora", "fedora-desktop"])
def test_fedoras_scriptlets_make_the_same(treefile: str, fedora: Fedora, another: list[str], tmp_path: Path) -> None:
    """Lua, file triggers and accounts, which real packages of Debian have little of."""
    composed = compose(fedora, treefile, tmp_path)
    verified(another, composed.commit, composed.repo, tmp_path / "another")
