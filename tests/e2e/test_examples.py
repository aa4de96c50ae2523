"""Every example runs, as `make example` runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.demo.example import EXAMPLES, command
from tests.e2e.whole import UNIVERSE

pytestmark = [pytest.mark.root, pytest.mark.universe]

SAYS = {
    "flavours": ["packages: bash ", "M    /usr/etc/motd", "D    /usr/bin/vim.tiny", "A    /usr/sbin/sshd"],
    "hands-on": ["out/rootfs is postprocessed", "changed by hand"],
    "reproducible": ["composed again, the same", "differs in times only", "written by postprocess[0] of the treefile"],
    "pipeline": ['"ostree-version": "13"', "No apparent changes"],
}


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/run.sh")))
def test_example(name: str, tmp_path: Path) -> None:
    if not (UNIVERSE / "universe.repo").exists():
        pytest.skip("make universe first")
    arguments, environment = command(name, tmp_path, UNIVERSE)
    done = subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in SAYS[name]:
        assert text in done.stdout
