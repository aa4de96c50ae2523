"""`compose build-chunked-oci`: a root directory, or an image, as an image, read as a client reads it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from compose.ostree.gvariant import decode
from tests.e2e.tiny import REF, Done, Site
from tests.support.imageimporter import import_image, read_image
from tests.support.registry import serve
from tests.support.rpmrepo import run

pytestmark = [pytest.mark.root, pytest.mark.parametrize("composed", ["archive"], indirect=True)]

WHEN = 1_600_000_000


def build(site: Site, rootfs: Path, output: str, *flags: str, status: int = 0, **environment: str) -> Done:
    return site.tool(
        *("build-chunked-oci", f"--rootfs={rootfs}", "--bootc", f"--output={output}", f"--cachedir={site.cachedir}"),
        *flags,
        status=status,
        **environment,
    )


@pytest.fixture
def rootfs(composed: Site, tmp_path: Path) -> Path:
    """As the composed tree is, with /etc, and what a deployment has in /sysroot."""
    path = tmp_path / "root"
    composed.ostree("checkout", REF, str(path))
    (path / "usr/etc").rename(path / "etc")
    (path / "sysroot/ostree/repo").mkdir(parents=True)
    (path / "sysroot/ostree/repo/config").write_text("[core]")
    os.utime(path, (WHEN, WHEN))
    return path


def test_a_root_is_as_the_commit_was(composed: Site, rootfs: Path, tmp_path: Path) -> None:
    done = build(composed, rootfs, f"oci:{tmp_path}/out:x", "--label=a=b")
    found = import_image(tmp_path / "out", "x")
    manifest, config = read_image(tmp_path / "out", "x")
    labels = config["config"]["Labels"]
    assert (labels["a"], labels["containers.bootc"], config["created"]) == ("b", "1", "2020-09-13T12:26:40Z")
    assert {"etc/hello.conf", "usr/bin/hello-capable"} <= found.visible.keys()
    components = [each["annotations"]["ostree.components"] for each in manifest["layers"][1:]]
    assert {"hello", "hello-lib", "tiny-kernel"} <= set(components)
    assert f"{len(manifest['layers'])} layers" in done.stdout
    # the root is what it was
    assert (rootfs / "etc/hello.conf").exists()
    # what it was checked out of has the same files, labels and capabilities too
    original = composed.tool("container-encapsulate", f"--repo={composed.repo}", REF, f"oci:{tmp_path}/commit").stdout
    assert "layers" in original
    other, _ = read_image(tmp_path / "commit")
    assert manifest["layers"][1:] == other["layers"][1:]
    # again: the same, and another time by the environment
    again = build(composed, rootfs, f"oci:{tmp_path}/out:x", "--label=a=b")
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    assert "Added layers:     0 " in again.stdout
    build(composed, rootfs, f"oci:{tmp_path}/out:x", SOURCE_DATE_EPOCH="1700000000")
    assert read_image(tmp_path / "out", "x")[1]["created"] == "2023-11-14T22:13:20Z"


def test_the_structure_of_an_image_is_kept(composed: Site, rootfs: Path, tmp_path: Path) -> None:
    build(composed, rootfs, f"oci-archive:{tmp_path}/old", "--max-layers=5")
    build(composed, rootfs, f"oci:{tmp_path}/old-layout", "--max-layers=5")
    done = build(composed, rootfs, f"oci:{tmp_path}/out", f"--previous-build=oci-archive:{tmp_path}/old")
    assert read_image(tmp_path / "out")[0] == read_image(tmp_path / "old-layout")[0]
    assert "Added layers:     0 " in done.stdout
    missing = build(composed, rootfs, f"oci:{tmp_path}/out", f"--previous-build=oci:{tmp_path}/nowhere", status=1)
    assert "there is no such image" in missing.stderr
    # annotations get lost on the way; one that says nothing at all of its layers is followed as far as it can be
    flat = tmp_path / "old-layout"
    index = json.loads((flat / "index.json").read_text())
    manifest, config = read_image(flat)

    def put(document: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (flat / "blobs/sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    for each in manifest["layers"]:
        each.pop("annotations", None)
    for kept in (True, False):
        if not kept:
            manifest["config"] |= put({**config, "history": []})
        index["manifests"][0] |= put(manifest)
        (flat / "index.json").write_text(json.dumps(index))
        done = build(composed, rootfs, f"oci:{tmp_path}/out", f"--previous-build=oci:{flat}")
        assert ("the layer structure is not kept" in done.stderr) == (not kept)
        assert ("Added layers:     0 " in done.stdout) == kept


def test_what_only_skopeo_writes(composed: Site, rootfs: Path, tmp_path: Path) -> None:
    """The first time there is nothing to follow, then there is."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    place = f"dir:{tmp_path}/out"
    first = build(composed, rootfs, place)
    again = build(composed, rootfs, place)
    assert "Total new layers" not in first.stdout
    assert "Added layers:     0 " in again.stdout
    assert (tmp_path / "out/manifest.json").exists()


def test_a_root_that_was_not_made_for_images(composed: Site, rootfs: Path, tmp_path: Path) -> None:
    """The database is where rpm has it by itself, and there is no policy."""
    shutil.rmtree(rootfs / "etc/selinux")
    (rootfs / "usr/lib/sysimage/rpm").unlink()
    (rootfs / "usr/share/rpm").rename(rootfs / "usr/lib/sysimage/rpm")
    done = build(composed, rootfs, f"oci:{tmp_path}/out")
    assert "no SELinux policy" in done.stderr
    assert import_image(tmp_path / "out").visible.keys() >= {"usr/bin/hello"}
    # a component of its own, where a directory says so
    os.setxattr(rootfs / "usr/share/hello", "user.component", b"greetings")
    build(composed, rootfs, f"oci:{tmp_path}/out")
    manifest, _ = read_image(tmp_path / "out")
    names = [each["annotations"]["ostree.components"] for each in manifest["layers"][1:]]
    assert names[0] == "greetings"
    assert "hello" in names


def test_what_comes_of_it_for_programs(composed: Site, rootfs: Path, tmp_path: Path) -> None:
    done = build(composed, rootfs, f"oci:{tmp_path}/out", "--progress=json", f"--digestfile={tmp_path}/digest")
    (result,) = [row for row in map(json.loads, done.stderr.splitlines()) if row["event"] == "result"]
    assert (result["outcome"], result["image"]) == ("done", f"oci:{tmp_path}/out")
    assert f"Pushed digest: {result['image_digest']}" in done.stdout
    assert (tmp_path / "digest").read_text() == result["image_digest"]


def test_what_cannot_be_made(composed: Site, rootfs: Path, tmp_path: Path) -> None:
    output = f"oci:{tmp_path}/out"
    (rootfs / "usr/etc").mkdir()
    assert "both /etc and /usr/etc" in build(composed, rootfs, output, status=2).stderr
    (rootfs / "usr/etc").rmdir()
    shutil.rmtree(rootfs / "usr/share/rpm")
    assert (
        f"error: {rootfs} has no packages in /usr/share/rpm/rpmdb.sqlite"
        in build(composed, rootfs, output, status=1).stderr
    )
    assert not (tmp_path / "out").exists()
    assert not list(composed.cachedir.glob("work/*/blobs"))


def test_a_damaged_database(composed: Site, rootfs: Path, tmp_path: Path) -> None:
    """librpm passes over what it cannot read; then files of packages would go unnoticed."""
    path = rootfs / "usr/share/rpm/rpmdb.sqlite"
    data = bytearray(path.read_bytes())
    place = data.find(b"Says hello")
    data[place : place + 4] = b"Hums"
    path.unlink()
    path.write_bytes(data)
    done = build(composed, rootfs, f"oci:{tmp_path}/out", status=1)
    assert f"error: {rootfs}: the rpm database is damaged" in done.stderr
    assert "only 6 of its" in done.stderr


def rechunk(site: Site, source: str, output: str, *flags: str, status: int = 0, **environment: str) -> Done:
    words = (f"--from={source}", "--bootc", f"--output={output}", f"--cachedir={site.cachedir}")
    return site.tool("build-chunked-oci", *words, *flags, status=status, **environment)


@pytest.fixture
def encapsulated(composed: Site, tmp_path: Path) -> Path:
    """A layout with an image of the composed commit, and settings of its own in the configuration."""
    config = tmp_path / "config.json"
    config.write_text('{"Env": ["A=b"], "Entrypoint": ["/sbin/init"], "Labels": {"of": "others"}}')
    composed.tool(
        *(
            "container-encapsulate",
            f"--repo={composed.repo}",
            f"--image-config={config}",
            "--arch=arm64",
            "--label=a=b",
        ),
        *(REF, f"oci:{tmp_path}/image:x"),
    )
    return tmp_path / "image"


def test_an_image_is_made_anew(composed: Site, encapsulated: Path, tmp_path: Path) -> None:
    """Files of an image of a commit are links to its repository, of which the new one has nothing."""
    done = rechunk(composed, f"oci:{encapsulated}:x", f"oci:{tmp_path}/out", "--label=c=d")
    found = import_image(tmp_path / "out")
    old, before = read_image(encapsulated, "x")
    new, config = read_image(tmp_path / "out")
    assert found.commit not in (composed.head(), "")
    # the commit that was in it has the same files, and the same packages
    assert new["layers"][1:] == old["layers"][1:]
    assert (config["created"], config["architecture"]) == (before["created"], "arm64")
    assert config["config"]["Env"] == ["A=b"]
    assert config["config"]["Entrypoint"] == ["/sbin/init"]
    labels = config["config"]["Labels"]
    assert (labels["of"], labels["a"], labels["c"], labels["containers.bootc"]) == ("others", "b", "d", "1")
    assert labels["ostree.commit"] == found.commit
    assert before["config"]["Labels"].keys() - labels.keys() <= {
        "ostree.bootable",
        "ostree.linux",
        "rpmostree.inputhash",
    }
    again = rechunk(composed, f"oci:{encapsulated}:x", f"oci:{tmp_path}/out", "--label=c=d")
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    assert not list(composed.cachedir.glob("work/*/blobs"))


@pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed (make test does it)")
def test_an_image_is_what_umoci_makes_of_it(composed: Site, encapsulated: Path, tmp_path: Path) -> None:
    run("umoci", "unpack", f"--image={encapsulated}:x", str(tmp_path / "bundle"))
    at = {"SOURCE_DATE_EPOCH": str(WHEN)}
    build(composed, tmp_path / "bundle/rootfs", f"oci:{tmp_path}/directory", **at)
    rechunk(composed, f"oci:{encapsulated}:x", f"oci-archive:{tmp_path}/archive", **at)
    rechunk(composed, f"oci-archive:{tmp_path}/archive", f"oci:{tmp_path}/again", **at)
    layers = [read_image(tmp_path / name)[0]["layers"] for name in ("directory", "again")]
    assert layers[0] == layers[1]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed (make test does it)")
def test_an_image_of_a_registry(composed: Site, encapsulated: Path, tmp_path: Path) -> None:
    with serve(tmp_path) as (place, home):
        target = f"docker://{place}/tiny/os:main"
        run("skopeo", "--insecure-policy", "copy", "-q", f"oci:{encapsulated}:x", target, HOME=str(home))
        rechunk(composed, target, f"oci:{tmp_path}/out", HOME=str(home))
        rechunk(composed, f"oci:{encapsulated}:x", f"oci:{tmp_path}/local")
        assert read_image(tmp_path / "out") == read_image(tmp_path / "local")
        missing = rechunk(composed, f"{target}x", f"oci:{tmp_path}/none", status=1, HOME=str(home))
        assert "cannot fetch the image registry:" in missing.stderr
        assert not (tmp_path / "none").exists()


def test_a_damaged_image(composed: Site, encapsulated: Path, tmp_path: Path) -> None:
    manifest, _ = read_image(encapsulated, "x")
    blob = encapsulated / "blobs" / manifest["layers"][3]["digest"].replace(":", "/")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    done = rechunk(composed, f"oci:{encapsulated}:x", f"oci:{tmp_path}/out", status=1)
    assert "layer 4 of " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert not list(composed.cachedir.glob("work/*/blobs"))


def test_a_commit_is_signed(composed: Site, encapsulated: Path, tmp_path: Path) -> None:
    """Of a derived image, for clients that want signed commits."""
    key = tmp_path / "key.pem"
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key))
    parts = [
        subprocess.run(["openssl", "pkey", "-in", key, "-outform", "DER", *more], check=True, stdout=-1).stdout[-32:]
        for more in ((), ("-pubout",))
    ]
    (tmp_path / "key").write_bytes(base64.b64encode(b"".join(parts)))
    flags = (f"--sign-commit=ed25519={tmp_path}/key", f"--sign-commit=spki={key}")
    rechunk(composed, f"oci:{encapsulated}:x", f"oci:{tmp_path}/out", *flags)
    found = import_image(tmp_path / "out")
    (tmp_path / "commit").write_bytes(found.metadata[found.commit, "commit"])
    detached = dict(decode("a{sv}", found.detached))
    assert detached.keys() == {"ostree.sign.ed25519", "ostree.sign.spki"}
    for variant in detached.values():
        (signature,) = variant.value
        (tmp_path / "signature").write_bytes(signature)
        run("openssl", "pkeyutl", "-verify", "-rawin", "-inkey", str(key), "-in", str(tmp_path / "commit"),
            "-sigfile", str(tmp_path / "signature"))  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--bootc", "--from=x", "--rootfs=x"], "exclude each other"),
        (["--bootc", "--from="], "not an image reference"),
        (["--bootc"], "--rootfs"),
        (["--rootfs=x"], "--bootc is missing"),
        (["--rootfs=x", "--bootc", "--sign-commit=ed25519=/nowhere"], "cannot read /nowhere"),
        (["--rootfs=x", "--bootc", "--sign-commit=/key"], "ed25519=FILE"),
        (["--rootfs=x", "--bootc", "--reference=x"], "oci:DIR:TAG"),
        (["--rootfs=x", "--bootc", "--format-version=3"], "is not supported"),
        (["--rootfs=/nowhere", "--bootc"], "not a root directory"),
    ],
)
def test_wrong_flags(composed: Site, tmp_path: Path, flags: list[str], complaint: str) -> None:
    done = composed.tool("build-chunked-oci", f"--output=oci:{tmp_path}/out", *flags, status=2)
    assert complaint in done.stderr
    assert not (tmp_path / "out").exists()
