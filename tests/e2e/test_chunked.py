"""`compose build-chunked-oci`: a root directory as an image, read as a client reads it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.tiny import REF, Done, Site
from tests.support.imageimporter import import_image, read_image

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
    # one that says nothing of its layers is followed as far as it can be
    flat = tmp_path / "old-layout"
    index = json.loads((flat / "index.json").read_text())
    manifest, _ = read_image(flat)
    for each in manifest["layers"]:
        each.pop("annotations", None)
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    (flat / "blobs/sha256" / digest).write_bytes(data)
    index["manifests"][0] |= {"digest": f"sha256:{digest}", "size": len(data)}
    (flat / "index.json").write_text(json.dumps(index))
    done = build(composed, rootfs, f"oci:{tmp_path}/out", f"--previous-build=oci:{flat}")
    assert "packed into layers anew" in done.stderr


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
    done = build(composed, rootfs, f"oci:{tmp_path}/out", "--progress=json")
    (result,) = [row for row in map(json.loads, done.stderr.splitlines()) if row["event"] == "result"]
    assert (result["outcome"], result["image"]) == ("done", f"oci:{tmp_path}/out")
    assert f"Pushed digest: {result['image_digest']}" in done.stdout


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
    assert "6 can be read" in done.stderr


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--bootc", "--from=localhost/x"], "podman image mount"),
        (["--bootc"], "--rootfs"),
        (["--rootfs=x"], "--bootc is missing"),
        (["--rootfs=x", "--bootc", "--sign-commit=ed25519=/key"], "sign the image"),
        (["--rootfs=x", "--bootc", "--reference=x"], "oci:DIR:TAG"),
        (["--rootfs=x", "--bootc", "--format-version=3"], "is not made"),
        (["--rootfs=/nowhere", "--bootc"], "not a root directory"),
    ],
)
def test_wrong_flags(composed: Site, tmp_path: Path, flags: list[str], complaint: str) -> None:
    done = composed.tool("build-chunked-oci", f"--output=oci:{tmp_path}/out", *flags, status=2)
    assert complaint in done.stderr
    assert not (tmp_path / "out").exists()
