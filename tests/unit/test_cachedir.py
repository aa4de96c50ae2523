"""The cachedir: whose it is, and what a killed compose leaves in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose.cachedir import CacheDir
from compose.errors import StorageError


def test_made_private(tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path / "a" / "b"))
    assert os.stat(cache.path).st_mode & 0o777 == 0o700


def test_writable_by_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StorageError, match="may be written by others") as caught:
        CacheDir(str(tmp_path))
    assert caught.value.hint == f"chmod go-w {tmp_path}"


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use"):
        CacheDir(str(tmp_path / "file"))


def test_scratch_is_removed(tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    with cache.scratch() as directory:
        assert os.path.isdir(directory)
        os.mkdir(os.path.join(directory, "x"))
    assert [name for name in os.listdir(cache.join("work")) if name != ".lock"] == []


def test_leftovers_of_a_killed_compose_are_removed_and_a_live_one_is_kept(tmp_path: Path) -> None:
    cache = CacheDir(str(tmp_path / "cache"))
    program = (
        "import os, sys; from compose.cachedir import CacheDir\n"
        "with CacheDir(sys.argv[1]).scratch() as directory: print(directory, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, cache.path], stdout=subprocess.PIPE, text=True, check=False)
    killed = done.stdout.strip()
    assert done.returncode == -9
    assert os.path.isdir(killed)
    with cache.scratch() as first, cache.scratch() as second:
        assert not os.path.exists(killed)
        assert os.path.isdir(first)
        assert os.path.isdir(second)
