"""`compose doctor`: what it says is so, and what it says mends it does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.ordinary import Stage

pytestmark = pytest.mark.root

DOCTOR = ("python3", "-m", "compose", "doctor", "--cachedir=/mnt/home/cache", "--format=json")


def examine(stage: Stage, *, root: bool = False, flags: str = "") -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """(exit code, verdict -> (name, what to do)...)."""
    done = stage.run(*DOCTOR, root=root, flags=flags)
    answer = json.loads(done.stdout)
    assert answer["works"] is (done.returncode == 0)
    found: dict[str, list[tuple[str, str]]] = {}
    for each in answer["checks"]:
        found.setdefault(each["verdict"], []).append((each["name"], each["mend"]))
    return done.returncode, found


@pytest.mark.parametrize("root", [True, False])
def test_here(root: bool, tmp_path: Path) -> None:
    status, found = examine(Stage(directory=tmp_path), root=root)
    assert status == 0
    assert ("sandbox", "") in found["ok"]
    assert "missing" not in found


def test_text(tmp_path: Path) -> None:
    done = Stage(directory=tmp_path).run(*DOCTOR[:-1])
    assert done.returncode == 0
    assert "ok      sandbox      user namespace, overlay\n" in done.stdout
    assert done.stdout.endswith("\ncomposes work here\n")


def test_all_that_is_missing_is_said_at_once_and_mends_it(tmp_path: Path) -> None:
    stage = Stage(
        directory=tmp_path,
        subordinates="",
        before="mount --bind /dev/null /usr/bin/newgidmap",
        around="python3 -m tests.support.refusing EPERM unshare --",
    )
    status, found = examine(stage)
    assert status == 1
    lines = [mend for name, mend in found["missing"] if name == "sandbox"]
    subordinates = "as root: echo composer:100000:65536 | tee -a /etc/subuid /etc/subgid"
    # newuidmap is there
    assert len(lines) == 4
    assert lines[:2] == [subordinates] * 2
    assert lines[2].startswith("as root: ")
    assert "must allow unshare" in lines[3]
    done = Stage(directory=tmp_path, subordinates="", before=subordinates.removeprefix("as root: ")).run(*DOCTOR)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("mount", "code", "verdict", "name"),
    [
        ("mount -t ramfs ramfs /mnt/home", 0, "worse", "user xattrs"),
        ("mount -t tmpfs -o size=8m tmpfs /mnt/home", 1, "missing", "space"),
        ("mount -o remount,bind,ro /mnt/home", 1, "missing", "cachedir"),
        ("mkdir -m 777 /mnt/home/cache", 1, "missing", "cachedir"),
    ],
)
def test_the_cachedir(mount: str, code: int, verdict: str, name: str, tmp_path: Path) -> None:
    before = f"{mount}; chown 4242:4242 /mnt/home /mnt/home/* 2>/dev/null || :"
    status, found = examine(Stage(directory=tmp_path, before=before))
    assert name in dict(found[verdict])
    assert status == code


def test_a_program_of_the_name_that_does_something_else(tmp_path: Path) -> None:
    assert shutil.which("mkcomposefs"), "tests/toolbox/toolbox.sh need mkcomposefs composefs composefs"
    status, found = examine(Stage(directory=tmp_path, before="mount --bind /usr/bin/true /usr/bin/mkcomposefs"))
    assert status == 0
    assert "install the package composefs" in dict(found["worse"])["composefs"]


def test_without_bindings(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['libdnf5'] = sys.modules['rpm'] = None\n"
        "from compose.cli import main; sys.exit(main(['doctor', '--cachedir=/mnt/home/cache']))"
    )
    done: subprocess.CompletedProcess[str] = Stage(directory=tmp_path).run("python3", "-c", program)
    assert done.returncode == 1
    assert "MISSING bindings     this machine lacks libdnf5, rpm" in done.stdout
    # and all that does not take them is still looked at
    assert "ok      sandbox      user namespace, overlay\n" in done.stdout
