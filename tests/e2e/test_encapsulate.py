"""`compose container-encapsulate`: an image of a composed tree, read as a client reads it."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.tiny import REF, Done, Site
from tests.support.imageimporter import import_image, read_image

pytestmark = pytest.mark.root


def encapsulate(site: Site, target: str, *flags: str, status: int = 0, ref: str = REF) -> Done:
    return site.tool("container-encapsulate", f"--repo={site.repo}", *flags, ref, target, status=status)


def digest(done: Done) -> str:
    found = re.search(r"^Pushed digest: (sha256:[0-9a-f]{64})$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return found[1]


def test_an_image_of_a_tree(composed: Site, tmp_path: Path) -> None:
    done = encapsulate(composed, f"oci:{tmp_path}/out:latest")
    found = import_image(tmp_path / "out", "latest")
    assert found.commit == composed.head()
    assert {"usr/bin/sh", "etc/passwd", "var/tmp"} <= found.visible.keys()
    manifest, config = read_image(tmp_path / "out", "latest")
    labels = config["config"]["Labels"]
    assert (labels["containers.bootc"], labels["ostree.bootable"]) == ("1", "true")
    assert len(labels["rpmostree.inputhash"]) == 64
    assert config["architecture"] == {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    components = {
        name for layer in manifest["layers"][1:] for name in layer["annotations"]["ostree.components"].split(",")
    }
    assert {"tiny-shell", "tiny-kernel", "rpmostree-unpackaged-content"} <= components
    # the same again is the same, and nothing is written twice
    before = {each: each.stat().st_ino for each in (tmp_path / "out/blobs/sha256").iterdir()}
    assert digest(
        encapsulate(composed, f"oci:{tmp_path}/out:again", "--jobs=1", f"--digestfile={tmp_path}/digest")
    ) == digest(done)
    assert (tmp_path / "digest").read_text() == digest(done)
    assert {each: each.stat().st_ino for each in (tmp_path / "out/blobs/sha256").iterdir()} == before


def test_a_killed_run_leaves_nothing_for_long(composed: Site, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    killed = (
        "import os, signal; from compose import cli; from compose.oci import contentmeta\n"
        "contentmeta.brought_files = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\ncli.program()"
    )
    words = ["container-encapsulate", f"--repo={composed.repo}", REF, f"oci:{tmp_path}/out"]
    done = subprocess.run([sys.executable, "-c", killed, *words], env=environment, check=False, timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("tmp/compose-*/rpmdb.sqlite"))
    composed.tool(*words, TMPDIR=str(tmp_path / "tmp"))
    assert not list(tmp_path.glob("tmp/*"))


def test_what_is_asked_for(composed: Site, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"Env": ["A=b"], "Labels": {"theirs": "x"}}')
    done = encapsulate(
        composed, f"oci:{tmp_path}/out", "--label=mine=a=b", "-lversion=7", f"--image-config={tmp_path}/config.json",
        "--arch=aarch64", "--copymeta=ostree.linux", "--copymeta-opt=absent", "--cmd=/sbin/init", "--cmd=--log",
        "--max-layers=2", "--format-version=2", f"--write-contentmeta-json={tmp_path}/meta.json",
    )  # fmt: skip
    manifest, config = read_image(tmp_path / "out")
    assert import_image(tmp_path / "out").commit == composed.head()
    assert config["architecture"] == "arm64"
    assert config["config"]["Env"] == ["A=b"]
    assert config["config"]["Cmd"] == ["/sbin/init", "--log"]
    labels = config["config"]["Labels"]
    assert (labels["mine"], labels["version"], labels["theirs"]) == ("a=b", "7", "x")
    assert len(manifest["layers"]) <= 3
    assert f"{len(manifest['layers'])} layers, " in done.stdout
    assert "tiny-shell" in {each["name"] for each in json.loads((tmp_path / "meta.json").read_text())}


def test_the_next_build_keeps_the_structure(composed: Site, tmp_path: Path) -> None:
    encapsulate(composed, f"oci-archive:{tmp_path}/old.ociarchive:x", "--max-layers=5")
    encapsulate(composed, f"oci:{tmp_path}/old", "--max-layers=5")
    before, _ = read_image(tmp_path / "old")
    (tmp_path / "manifest.json").write_text(json.dumps(before))
    done = encapsulate(
        composed, f"oci:{tmp_path}/new", f"--previous-build-manifest={tmp_path}/manifest.json",
        f"--compare-with-build=oci-archive:{tmp_path}/old.ociarchive",
    )  # fmt: skip
    after, _ = read_image(tmp_path / "new")
    assert after["layers"] == before["layers"]
    assert re.search(rf"^Total new layers: {len(after['layers'])} +Size: ", done.stdout, re.MULTILINE)
    assert re.search(r"^Added layers: +0 +Size: 0 B$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("target", "flags", "status", "said"),
    [
        ("quay.io/a/b", (), 2, "not an image reference"),
        ("ostree-unverified-registry:quay.io/a", (), 2, "tells a client how to verify an image"),
        ("oci:{}", (), 2, "neither empty nor an OCI layout"),
        ("oci:{}/no/out", (), 2, "there is no directory"),
        ("oci-archive:{}/no/out", (), 1, "cannot write"),
        ("oci:{}/out", ("--format-version=0",), 2, "--format-version=0"),
        ("oci:{}/out", ("--label=x",), 2, "--label=x: expected KEY=VALUE"),
        ("oci:{}/out", ("--label=ostree.commit=x",), 2, "--label=ostree.commit"),
        ("oci:{}/out", ("--arch=pdp11",), 2, "--arch=pdp11"),
        ("oci:{}/out", ("--copymeta=absent",), 2, "--copymeta=absent"),
        ("oci:{}/out", ("--image-config={}/there",), 2, "not JSON"),
        ("oci:{}/out", ("--compare-with-build=oci:{}/none",), 1, "cannot open the OCI layout"),
        ("oci:{}/out", ("--previous-build-manifest={}/none",), 2, "cannot read"),
        ("oci:{}/out", ("--write-contentmeta-json={}/no/meta",), 1, "cannot write"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(
    composed: Site, tmp_path: Path, target: str, flags: tuple[str, ...], status: int, said: str
) -> None:
    (tmp_path / "there").write_text("x")
    filled = [each.format(tmp_path) for each in flags]
    done = encapsulate(composed, target.format(tmp_path), *filled, status=status)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def test_commits_that_are_not_there_or_have_no_packages(site: Site, tmp_path: Path) -> None:
    assert "has no commit nothing" in encapsulate(site, f"oci:{tmp_path}/out", ref="nothing", status=1).stderr
    (tmp_path / "tree/usr").mkdir(parents=True)
    site.ostree("commit", "--branch=x", f"--tree=dir={tmp_path}/tree")
    assert "has no packages" in encapsulate(site, f"oci:{tmp_path}/out", ref="x", status=1).stderr
    assert not (tmp_path / "out").exists()
