"""One real system with most keys of the language at once, pulled and looked at with the real client."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.events import Reporter
from compose.pipeline.options import ComposeOptions, Outcome
from compose.pipeline.run import compose_tree
from compose.treefile.keys import KEYS
from compose.treefile.parse import parse_yaml
from tests.compat.ostree.test_commit import ostree, served
from tests.e2e.whole import PROJECT, UNIVERSE

pytestmark = [pytest.mark.root, pytest.mark.universe]

TOP = """\
edition: "2024"
include: common.yaml
conditional-include:
  - if: [flavour == "server", with_jq == true]
    include: {units: [systemd-networkd.service]}
  - if: flavour == "desktop"
    include: desktop.yaml
arch-include: {no-such-arch: desktop.yaml}
variables: {flavour: server, with_jq: true, release: "13"}
ref: keys/${basearch}/${flavour}
automatic-version-prefix: "${release}.7"
automatic-version-suffix: "-"
mutate-os-release: "${release}"
metadata: {name: "keys of ${flavour}"}
add-commit-metadata: {com.example.flavour: "${flavour}", com.example.number: 3}
repo-metadata: detached
advisories-metadata: detached
container-cmd: [/usr/lib/systemd/systemd]
packages-remove: [vim-tiny]
exclude-packages: [libicu76]
repo-packages:
  - repo: universe
    packages: [bzip2]
recommends: false
documentation: false
install-langs: [en_US]
selinux: true
selinux-label-version: 1
ignore-devices: true
ima: true
boot-location: new
tmp-is-dir: false
opt-usrlocal: state-overlay
default-target: multi-user.target
machineid-compat: true
readonly-executables: true
initramfs-args: [--no-hostonly, --omit, "nfs iscsi"]
sysusers: compose-forced
preserve-passwd: true
check-passwd: {type: data, entries: {root: 0, daemon: [1, 1]}}
check-groups: {type: none}
ignore-removed-users: ["*"]
ignore-removed-groups: [nobody]
etc-group-members: [sudo]
rpmdb: target
rpmdb-normalize: true
postprocess:
  - |
    #!/bin/bash
    set -euo pipefail
    install -d /usr/share/keys
    echo first > /usr/share/keys/scripts
postprocess-script: script.sh
add-files:
  - [motd, etc/motd]
  - [tool, usr/bin/keys-tool]
remove-files: [usr/share/info, etc/update-motd.d]
remove-from-packages:
  - [bash, "/usr/share/.*/bashbug.*", /usr/bin/bashbug]
ostree-layers: [layer/extra]
ostree-override-layers: [layer/issue]
cliwrap-binaries: [dnf]
"""

FILES = {
    "motd": "Welcome.\n",
    "tool": "#!/bin/sh\necho tool\n",
    "script.sh": '#!/usr/bin/gawk -f\nBEGIN { print "second" >> "/usr/share/keys/scripts" }\n',
    "finalize.d/10-first": "#!/bin/sh\nset -e\ntest -d /usr/etc\necho third >>/usr/share/keys/scripts\n",
}
EXECUTABLE = ("tool", "script.sh", "finalize.d/10-first")
LAYERS = {
    "layer/extra": {"usr/share/extra/file": "extra\n", "usr/bin/rpm-ostree": "#!/bin/sh\n"},
    "layer/issue": {"usr/etc/issue": "layered\n"},
}


@dataclass(frozen=True)
class Client:
    repo: Path
    server: Path
    ref: str
    checkout: Path

    def show(self, key: str) -> str:
        return ostree(self.repo, "show", self.ref, f"--print-metadata-key={key}").strip()

    def read(self, path: str) -> str:
        return (self.checkout / path).read_text()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    if not (UNIVERSE / "universe.repo").exists():
        pytest.skip("make universe first")
    top = tmp_path_factory.mktemp("keys")
    place, server = top / "treefile", top / "server"
    ostree(server, "init", "--mode=archive")
    for ref, files in LAYERS.items():
        tree = top / ref.replace("/", "-")
        for name, text in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
            (tree / name).chmod(0o755 if name.startswith("usr/bin/") else 0o644)
        ostree(server, "commit", f"--branch={ref}", f"--tree=dir={tree}", "--owner-uid=0", "--owner-gid=0")
    (place / "finalize.d").mkdir(parents=True)
    for name, text in FILES.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755 if name in EXECUTABLE else 0o644)
    (place / "top.yaml").write_text(TOP)
    (place / "common.yaml").write_text((PROJECT / "treefiles/demo/min.yaml").read_text())
    shutil.copy(UNIVERSE / "universe.repo", place)
    options = ComposeOptions(
        treefile=str(place / "top.yaml"), cachedir=str(top / "cache"), repo=str(server), jobs=os.cpu_count() or 1
    )
    result = compose_tree(options, Reporter())
    assert result.outcome is Outcome.COMMITTED
    assert result.ref is not None
    # with another flavour of the input hash nothing changes: a second compose has nothing to do
    assert compose_tree(options, Reporter()).outcome is Outcome.UNCHANGED
    repo = top / "client"
    ostree(repo, "init", "--mode=bare")
    with served(server) as url:
        ostree(repo, "remote", "add", "--no-gpg-verify", "o", url)
        ostree(repo, "pull", "o", result.ref)
    ostree(repo, "fsck")
    ref = f"o:{result.ref}"
    ostree(repo, "checkout", "-H", ref, str(top / "checkout"))
    return Client(repo=repo, server=server, ref=ref, checkout=top / "checkout")


def test_most_keys_are_here() -> None:
    """What is left out has a reason; a key that is new must be added, or listed."""
    elsewhere = {
        "basearch": "set by the compose", "rojig": "obsolete", "platform-module": "obsolete",
        "bootstrap-packages": "an old spelling of packages", "container": "excludes a kernel: test_keys",
        "gpg-key": "tests/compat/ostree/test_detached", "lockfile-repos": "needs a lockfile: test_lockfiles",
        "rpm-files": "test_sources", "cliwrap": "cliwrap-binaries is here", "no-initramfs": "initramfs-args is here",
        "repovars": "tests/compat/solve", "id-lock": "test_id_lock",
        "ignore-scriptlets": "test_keys", "allow-scriptlet-failures": "test_keys", "default-ignored-scriptlets": "test_keys",
    }  # fmt: skip
    used = {*parse_yaml(TOP.encode(), "top.yaml").value}
    used |= {"releasever", "repos", "packages", "units"}
    assert KEYS.keys() - used == elsewhere.keys()


def test_commit_metadata(client: Client) -> None:
    assert client.show("version") == "'13.7'"
    assert client.show("com.example.flavour") == "'server'"
    assert client.show("com.example.number") == "int64 3"
    assert client.show("ostree.container-cmd") == "['/usr/lib/systemd/systemd']"
    assert client.show("rpmostree.initramfs-args") == "['--no-hostonly', '--omit', 'nfs iscsi']"
    assert client.show("ostree.bootable") == "true"
    with pytest.raises(AssertionError):
        client.show("rpmostree.rpmmd-repos")
    ref = client.ref.removeprefix("o:")
    assert "'universe'" in ostree(client.server, "show", ref, "--print-detached-metadata-key=rpmostree.rpmmd-repos")


def test_packages(client: Client) -> None:
    listed = client.show("rpmostree.rpmdb.pkglist")
    assert "('bzip2'," in listed
    assert "('vim-tiny'," not in listed
    queried = subprocess.run(
        ["rpm", "--dbpath", client.checkout / "usr/share/rpm", "-qa", "--qf", "%{NAME}\n"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert len(queried) == listed.count("('")
    assert sorted(queried) == sorted(each.split("'")[0] for each in listed.split("('")[1:])


def test_files_and_scripts(client: Client) -> None:
    assert client.read("usr/share/keys/scripts") == "first\nsecond\nthird\n"
    assert client.read("usr/etc/motd") == "Welcome.\n"
    assert client.read("usr/etc/issue") == "layered\n"
    assert client.read("usr/share/extra/file") == "extra\n"
    assert "rpm-ostree cliwrap" in client.read("usr/bin/dnf")
    for gone in ("usr/share/info", "usr/etc/update-motd.d", "usr/bin/bashbug", "etc", "usr/share/man/man1/bash.1.gz"):
        assert not (client.checkout / gone).exists(), gone
    flat = json.loads(client.read("usr/share/rpm-ostree/treefile.json"))
    assert flat["metadata"] == {"name": "keys of server"}
    assert "variables" not in flat


def test_layout(client: Client) -> None:
    top = client.checkout
    assert os.readlink(top / "tmp") == "sysroot/tmp"
    assert os.readlink(top / "opt") == "usr/lib/opt"
    assert os.readlink(top / "usr/lib/systemd/system/default.target") == "multi-user.target"
    wants = top / "usr/etc/systemd/system/multi-user.target.wants"
    assert os.readlink(wants / "systemd-networkd.service") == "/usr/lib/systemd/system/systemd-networkd.service"
    overlays = top / "usr/lib/systemd/system/local-fs.target.requires"
    assert len(list(overlays.glob("ostree-state-overlay@*"))) == 2
    assert (top / "usr/etc/machine-id").read_bytes() == b""
    assert "OSTREE_VERSION='13.7'" in client.read("usr/lib/os-release")
    (kernel,) = (top / "usr/lib/modules").iterdir()
    copies = sorted(path.name.split(kernel.name)[0] for path in (top / "usr/lib/ostree-boot").iterdir())
    assert copies[-2:] == ["initramfs-", "vmlinuz-"]
    assert (kernel / "initramfs.img").stat().st_size > 1 << 20


def test_modes_of_executables(client: Client) -> None:
    """readonly-executables is about packages; what the treefile adds has the mode that it has there."""
    assert stat.S_IMODE((client.checkout / "usr/bin/bash").stat().st_mode) == 0o555
    assert stat.S_IMODE((client.checkout / "usr/bin/su").stat().st_mode) == 0o4555
    assert stat.S_IMODE((client.checkout / "usr/bin/keys-tool").stat().st_mode) == 0o755


def test_accounts(client: Client) -> None:
    assert "sudo:x:27:" in client.read("usr/etc/group")
    assert "sudo:x:27:" in client.read("usr/lib/group")
    assert client.read("usr/etc/passwd").startswith("root:x:0:0:")
    assert "daemon:x:1:1:" in client.read("usr/lib/passwd")


def test_languages(client: Client) -> None:
    """Of the translations those of %lang(en) are left, of some hundred."""
    locales = client.checkout / "usr/share/locale"
    left = {path.relative_to(locales).parts[0] for path in locales.rglob("*") if path.is_file()}
    assert {name.partition("@")[0] for name in left} == {"en"}
