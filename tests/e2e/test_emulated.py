"""A compose for another architecture, whose scriptlets an emulator runs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from compose.sandbox import emulation, handlers, kernel
from tests.e2e.tiny import EPOCH, SIGNER, Site
from tests.support import rpmrepo
from tests.support.rpmrepo import Keys

ARCH = "aarch64" if os.uname().machine != "aarch64" else "riscv64"
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(kernel.release() < handlers.PER_NAMESPACE, reason="needs Linux 6.7"),
    pytest.mark.skipif(emulation.emulator_for(ARCH) is None, reason=f"no emulator of {ARCH} is installed"),
]
# mkdirat(AT_FDCWD, path, 0755) and exit(0), with the path behind the code
CODE = {
    "aarch64": "600c8092 e1000010 a23d80d2 480480d2 010000d4 000080d2 a80b80d2 010000d4",
    "riscv64": "1305c0f9 97050000 9385c501 1306d01e 93082002 73000000 13050000 9308d005 73000000",
}
SPEC = """\
Name: foreign
Version: 1
Release: 1
Summary: A program that makes a directory
License: MIT
AutoReqProv: no
%description
x
%install
mkdir -p %{{buildroot}}/usr/bin %{{buildroot}}/usr/share
install -m 755 {program} %{{buildroot}}/usr/bin/emulated
%post -p /usr/bin/emulated
%files
/usr/bin/emulated
/usr/share
"""


@pytest.fixture
def foreign(moving: Site, keys: Keys, tmp_path: Path) -> Site:
    """A repository with a package of the other architecture."""
    path = b"/usr/share/emulated\0"
    program = replace(emulation.FORMATS[ARCH], code=CODE[ARCH] + path.hex()).program()
    (tmp_path / "program").write_bytes(program)
    (tmp_path / "foreign.spec").write_text(SPEC.format(program=tmp_path / "program"))
    rpmrepo.run(
        "rpmbuild", "-bb", "--quiet", "--target", f"{ARCH}-linux", "--define", f"_topdir {tmp_path}/top",
        "--define", f"_rpmdir {tmp_path}", "--define", "_build_name_fmt %{NAME}.rpm", "--define", "_rpmformat 4",
        "--define", "__os_install_post %{nil}", str(tmp_path / "foreign.spec"), SOURCE_DATE_EPOCH=str(EPOCH),
    )  # fmt: skip
    keys.sign(tmp_path / "foreign.rpm", SIGNER)
    (tmp_path / "foreign.rpm").rename(moving.packages / "foreign.rpm")
    rpmrepo.index(moving.packages)
    moving.write_treefile(
        ref="tiny/${basearch}", packages=["foreign", "tiny-filesystem", "tiny-release"], selinux=False, container=True,
        boot_location=None,
    )  # fmt: skip
    return moving


def test_scriptlets_are_emulated(foreign: Site) -> None:
    flags = (f"--arch={ARCH}", f"--cachedir={foreign.cachedir}", f"--repo={foreign.repo}")
    told = foreign.tool("tree", foreign.treefile, *flags, "--progress=plain").stderr
    assert f"Sandbox: user namespace, overlay, {ARCH} emulated by " in told
    assert "00755" in foreign.ostree("ls", "-d", f"tiny/{ARCH}", "/usr/share/emulated")
    # what it did is remembered: it takes no time
    first = foreign.ostree("rev-parse", f"tiny/{ARCH}")
    timings = foreign.path / "timings.json"
    foreign.tool("tree", foreign.treefile, *flags, "--force-nocache", "--no-parent", f"--write-timings-to={timings}")
    assert foreign.ostree("rev-parse", f"tiny/{ARCH}") == first
    found = {each["owner"]: each["seconds"] for each in json.loads(timings.read_text())["programs"]}
    assert found[f"scriptlet:foreign-1-1.{ARCH}"] == 0
    # in parts
    out = foreign.path / "out"
    foreign.tool("install", foreign.treefile, out, *flags, "--force-nocache")
    assert (out / "rootfs/usr/share/emulated").is_dir()
    foreign.tool("postprocess", out / "rootfs", foreign.treefile, *flags[:2])
    foreign.tool("commit", foreign.treefile, out / "rootfs", *flags, "--no-parent")
    assert foreign.ostree("rev-parse", f"tiny/{ARCH}") == first
