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
    "reproducible": [": reproduced", "differs in times only", "written by postprocess[0] of the treefile"],
    "rootless": ["ok      sandbox      user namespace, overlay", "-04755 0 0 ", "/usr/bin/su", "-00000 0 "],
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


# In podman's place: root of a user namespace, with the capabilities that were asked for.
PODMAN = """#!/bin/sh
set -eu
[ "$1" = run ] || exit 1
shift
added=
while :; do
    case $1 in
        --cap-add=*) added=,+${1#*=} ;;
        --workdir=*) cd "${1#*=}" ;;
        --volume=*) [ -d "$(echo "${1#*=}" | cut -d: -f1)" ] ;;
        --*) ;;
        *) break ;;
    esac
    shift
done
shift
kept=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+sys_chroot,+setfcap
exec unshare --user --map-root-user --map-auto --mount --pid --fork --mount-proc \\
    setpriv --bounding-set="$kept$added" -- "$@"
"""


@pytest.mark.slow
def test_in_a_container(tmp_path: Path) -> None:
    if not (UNIVERSE / "universe.repo").exists():
        pytest.skip("make universe first")
    arguments, environment = command("rootless", tmp_path, UNIVERSE, "container.sh")
    podman = tmp_path / ".bin/podman"
    podman.write_text(PODMAN)
    podman.chmod(0o755)
    done = subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok      sandbox      root namespaces, overlay" in done.stdout
    assert " => " in done.stdout
