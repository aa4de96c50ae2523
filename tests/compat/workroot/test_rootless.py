"""All tests of workroots, as an ordinary user."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.ordinary import Stage

pytestmark = pytest.mark.root
# what makes files of others to read them again
NEEDS_ROOT = "test_apply.py::test_a_directory_is_scanned_as_it_is"


@pytest.mark.parametrize(
    ("names", "least"), [(("workroot", "apply"), 35), pytest.param(("remembered",), 70, marks=pytest.mark.slow)]
)
def test_as_an_ordinary_user(names: tuple[str, ...], least: int, tmp_path: Path) -> None:
    tests = [f"tests/compat/workroot/test_{name}.py" for name in names]
    flags = ["-q", "-o", "cache_dir=/mnt/home/pytest", f"--deselect=tests/compat/workroot/{NEEDS_ROOT}"]
    stage = Stage(directory=tmp_path)
    done = stage.run("sh", "-c", 'cd /mnt/project && exec "$@"', "sh", sys.executable, "-m", "pytest", *flags, *tests)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) > least


def test_directories_that_may_not_be_written_are_removed_at_any_depth(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom compose import fs\n"
        "path = 'd/' * 140\nos.makedirs(path)\n"
        "while path: os.chmod(path, 0o555); path = path[:-2]\n"
        "fs.remove_tree('d')\nassert not os.path.lexists('d')"
    )
    done = Stage(directory=tmp_path).run(sys.executable, "-c", program)
    assert (done.returncode, done.stdout) == (0, "")
