"""Images that others are made of, with umoci and skopeo as judges of what is in them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.events import Reporter
from compose.oci.reference import parse_source
from compose.oci.source import SourceImage, read_source
from compose.rootfs import Root, read_rootfs
from compose.tree import Entry
from tests.support.rpmrepo import run

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed (make test does it)"),
    pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed (make test does it)"),
]
_CAPABILITY = b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
_WITHOUT = ("sysroot",)


def first(top: Path) -> None:
    for name in ("usr/bin", "usr/lib/deep/er", "etc/conf.d", "dev", "sysroot/ostree", "opt/app/data", "var"):
        (top / name).mkdir(parents=True)
    (top / "usr/bin/ping").write_bytes(b"ping")
    os.setxattr(top / "usr/bin/ping", "security.capability", _CAPABILITY)
    os.setxattr(top / "usr/bin/ping", "user.note", b"a\n\0b=\xff")
    os.setxattr(top / "usr/lib", "user.component", b"libraries")
    (top / "usr/bin/su").write_bytes(b"su")
    os.chown(top / "usr/bin/su", 3_000_000, 12)
    (top / "usr/bin/su").chmod(0o4750)
    os.link(top / "usr/bin/su", top / "usr/bin/same")
    (top / "usr/bin/sh").symlink_to("/usr/bin/ping")
    os.chown(top / "usr/bin/sh", 5, 6, follow_symlinks=False)
    (top / "usr/lib/far").symlink_to("/" + "y/" * 99)
    (top / "usr/lib/deep/er" / ("x" * 200)).write_bytes(b"x")
    (top / "usr/lib/deep/er/näme\\x2d").write_bytes(b"n")
    (top / "usr/lib/large").write_bytes(os.urandom(3 << 20) + bytes(7 << 20))
    (top / "usr/lib/old").touch()
    os.utime(top / "usr/lib/old", (1, 1))
    (top / "lib").symlink_to("usr/lib")
    (top / "etc/conf.d/gone").write_bytes(b"1")
    (top / "etc/conf.d").chmod(0o2750)
    (top / "opt/app/data/x").write_bytes(b"1")
    (top / "sysroot/ostree/x").write_bytes(b"1")
    os.mknod(top / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))


def second(top: Path) -> None:
    """Things go, and others take their place."""
    (top / "etc/conf.d/gone").unlink()
    (top / "etc/conf.d/new").write_bytes(b"2")
    shutil.rmtree(top / "opt/app")
    (top / "opt/app").write_bytes(b"a file now")
    (top / "lib").unlink()
    (top / "lib").mkdir()
    (top / "lib/x").symlink_to("../usr")
    (top / "usr/bin/same").unlink()
    (top / "usr/bin/su").write_bytes(b"another")
    (top / "var").chmod(0o700)
    shutil.rmtree(top / "usr/lib/deep")
    (top / "usr/lib/deep").mkdir()
    (top / "usr/lib/deep/again").touch()
    (top / "sysroot/more").touch()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image of one layer and one of two."""
    top = tmp_path_factory.mktemp("image")
    layout, bundle = top / "layout", top / "bundle"
    run("umoci", "init", f"--layout={layout}")
    run("umoci", "new", f"--image={layout}:new")
    run("umoci", "unpack", f"--image={layout}:new", str(bundle))
    for tag, change in (("one", first), ("two", second)):
        change(bundle / "rootfs")
        run("umoci", "repack", "--refresh-bundle", f"--image={layout}:{tag}", str(bundle))
    return layout


def read(reference: str, store: BlobStore) -> SourceImage:
    return read_source(parse_source(reference), store, Reporter(), writer="x", without=_WITHOUT)


def entries(root: Root) -> dict[str, Entry]:
    """With names of links that are the same for both: what is linked with what."""
    groups: dict[str, list[str]] = {}
    for path, entry in root.tree.walk():
        if entry.link:
            groups.setdefault(entry.link, []).append(path)
    return {
        path: dataclasses.replace(entry, link=" ".join(groups.get(entry.link, []))) for path, entry in root.tree.walk()
    }


@pytest.mark.parametrize("tag", ["one", "two"])
def test_what_umoci_unpacks(image: Path, tmp_path: Path, tag: str) -> None:
    store = BlobStore(str(tmp_path / "store"))
    run("umoci", "unpack", f"--image={image}:{tag}", str(tmp_path / "bundle"))
    expected = read_rootfs(str(tmp_path / "bundle/rootfs"), store, Reporter(), writer="x", jobs=1, without=_WITHOUT)
    found = read(f"oci:{image}:{tag}", store)
    assert entries(found.root).keys() == entries(expected).keys()
    for path, entry in entries(expected).items():
        mine = entries(found.root)[path]
        if entry.is_symlink or not entry.link:
            # hard links to what a later layer wrote anew are none any more, and a file alone is a group of one
            mine = dataclasses.replace(mine, link="")
        assert mine == entry, path
    assert found.root.devices == expected.devices == ("dev/null",)


@pytest.mark.parametrize("how", ["archive", "dir", "zstd", "plain", "docker", "docker-archive"])
def test_what_skopeo_copies(image: Path, tmp_path: Path, how: str) -> None:
    store = BlobStore(str(tmp_path / "store"))
    expected = read(f"oci:{image}:two", store)
    target, flags = {
        "archive": (f"oci-archive:{tmp_path}/x", ()),
        "dir": (f"dir:{tmp_path}/x", ()),
        "zstd": (f"oci:{tmp_path}/x", ("--dest-compress-format=zstd", "--dest-force-compress-format")),
        "plain": (f"dir:{tmp_path}/x", ("--dest-decompress",)),
        "docker": (f"dir:{tmp_path}/x", ("--format=v2s2",)),
        "docker-archive": (f"docker-archive:{tmp_path}/x:a:1", ()),
    }[how]
    run("skopeo", "--insecure-policy", "copy", "--quiet", *flags, f"oci:{image}:two", target)
    if how == "zstd":
        heads = {path.read_bytes()[:4] for path in (tmp_path / "x/blobs/sha256").iterdir()}
        assert b"\x28\xb5\x2f\xfd" in heads
    found = read(target, store)
    assert found.root == expected.root
    assert (found.created, found.architecture) == (expected.created, expected.architecture)
