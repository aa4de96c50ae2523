"""Images, with tar, ostree, skopeo and umoci as judges."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.errors import ImageError, UsageError
from compose.events import Reporter
from compose.oci import skopeo
from compose.oci.chunking import Chunk, previous_layers
from compose.oci.combine import combine
from compose.oci.difference import read_manifest
from compose.oci.encapsulate import Image, encapsulate
from compose.oci.existing import read_existing
from compose.oci.image import PLAIN, ImageOptions
from compose.oci.reference import parse_reference
from compose.ostree.repo import Repo
from tests.support.imageimporter import import_image, read_image
from tests.support.registry import serve
from tests.support.rpmrepo import run

pytestmark = pytest.mark.root
_CAPABILITY = b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed (make test does it)")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root as `ostree commit` takes it."""
    top = tmp_path_factory.mktemp("tree")
    for name in ("usr/bin", "usr/lib/deep/er", "usr/etc/conf.d", "var", "proc", "sysroot"):
        (top / name).mkdir(parents=True)
    (top / "usr/bin/tool").write_bytes(b"tool" * 999)
    (top / "usr/bin/tool").chmod(0o755)
    (top / "usr/bin/ping").write_bytes(b"ping")
    os.setxattr(top / "usr/bin/ping", "security.capability", _CAPABILITY)
    os.setxattr(top / "usr/bin/ping", "user.note", b"a\n\0b")
    (top / "usr/bin/su").write_bytes(b"su")
    os.chown(top / "usr/bin/su", 0, 12)
    (top / "usr/bin/su").chmod(0o4750)
    (top / "usr/bin/same").write_bytes(b"su")
    os.chown(top / "usr/bin/same", 0, 12)
    (top / "usr/bin/same").chmod(0o4750)
    (top / "usr/bin/sh").symlink_to("tool")
    os.chown(top / "usr/bin/sh", 5, 6, follow_symlinks=False)
    (top / "usr/lib/far").symlink_to("/" + "y/" * 99)
    (top / "usr/lib/double").symlink_to("../..//sbin/chkconfig")
    (top / "usr/lib/deep/er" / ("x" * 200)).write_bytes(b"x")
    (top / "usr/lib/deep/er/näme\\x2d").write_bytes(b"n")
    (top / "usr/lib/empty").touch()
    (top / "usr/lib/large").write_bytes(os.urandom(3 << 20) + bytes(7 << 20))
    (top / "usr/etc/passwd").write_bytes(b"root")
    (top / "usr/etc/conf.d").chmod(0o750)
    os.setxattr(top / "usr/etc/conf.d", "user.component", b"settings")
    os.chown(top / "usr/etc/conf.d", 7, 3_000_000)
    (top / "ostree").symlink_to("sysroot/ostree")
    return top


@pytest.fixture(scope="module", params=["archive", "bare-user", "bare"])
def committed(request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository and a commit of the real ostree."""
    repo = tmp_path_factory.mktemp(request.param) / "repo"
    run("ostree", f"--repo={repo}", "init", f"--mode={request.param}")
    checksum = run(
        "ostree", f"--repo={repo}", "commit", "--branch=x", f"--tree=dir={tree}", "--subject=A tree",
        "--add-metadata-string=version=1", "--timestamp=@1700000000",
    )  # fmt: skip
    return repo, checksum.strip()


def write(committed: tuple[Path, str], target: str, options: ImageOptions = PLAIN) -> Image:
    path, commit = committed
    with Repo.open(str(path)) as repo:
        files = [(name, checksum.hex()) for name, checksum, meta in repo.walk(commit) if meta is None]
        tools = {checksum for name, checksum in files if name.startswith("usr/bin/")}
        chunks = (
            Chunk(name="tools", components=("tools",), objects=tuple(sorted(tools)), size=1),
            Chunk(name="Reserved for new packages", components=(), objects=(), size=0),
        )
        return encapsulate(
            repo, commit, chunks, parse_reference(target), options, parents=False, jobs=2, reporter=Reporter()
        )


def extract(layout: Path, tag: str | None, into: Path) -> Path:
    manifest, _ = read_image(layout, tag)
    into.mkdir()
    for layer in manifest["layers"]:
        blob = layout / "blobs/sha256" / layer["digest"].removeprefix("sha256:")
        run("tar", "-xzpf", str(blob), "-C", str(into), "--numeric-owner", "--xattrs", "--xattrs-include=*")
    return into


def seen(top: Path) -> dict[str, tuple[object, ...]]:
    """What a container sees, but for what images have of their own."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        status = path.lstat()
        if name.startswith(("sysroot/ostree", "var/tmp")) or name == "sysroot":
            continue
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        xattrs = {
            each: os.getxattr(path, each, follow_symlinks=False)
            for each in os.listxattr(path, follow_symlinks=False)
            if each != "security.selinux"
        }
        found[name] = (status.st_mode, status.st_uid, status.st_gid, content, xattrs)
    return found


def wanted(committed: tuple[Path, str], tmp_path: Path) -> dict[str, tuple[object, ...]]:
    """The tree as the real ostree checks it out, /etc where a container has it."""
    repo, commit = committed
    # in a bare repository, for a checkout as root has owners and xattrs
    run("ostree", f"--repo={tmp_path}/bare", "init", "--mode=bare")
    run("ostree", f"--repo={tmp_path}/bare", "pull-local", str(repo), commit)
    run("ostree", f"--repo={tmp_path}/bare", "checkout", commit, f"{tmp_path}/checkout")
    (tmp_path / "checkout/usr/etc").rename(tmp_path / "checkout/etc")
    return seen(tmp_path / "checkout")


def test_what_is_extracted_is_a_repository_and_the_tree(committed: tuple[Path, str], tmp_path: Path) -> None:
    commit = committed[1]
    write(committed, f"oci:{tmp_path}/out:a")
    assert import_image(tmp_path / "out", "a").commit == commit
    top = extract(tmp_path / "out", "a", tmp_path / "root")
    inner = top / "sysroot/ostree/repo"
    run("ostree", f"--repo={inner}", "fsck")
    run("ostree", f"--repo={tmp_path}/client", "init", "--mode=archive")
    run("ostree", f"--repo={tmp_path}/client", "pull-local", "--untrusted", str(inner), commit)
    run("ostree", f"--repo={tmp_path}/client", "fsck")
    assert seen(top) == wanted(committed, tmp_path)
    # a file is its object, so that a container takes no more room
    assert (top / "usr/bin/su").samefile(top / "usr/bin/same")
    assert (top / "usr/bin/su").stat().st_nlink == 3


def test_the_same_commit_is_the_same_image(committed: tuple[Path, str], tmp_path: Path) -> None:
    first = write(committed, f"oci-archive:{tmp_path}/a.tar:x")
    again = write(committed, f"oci-archive:{tmp_path}/b.tar:x")
    assert first == again
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@needs("skopeo")
def test_skopeo_reads_layouts_and_archives(committed: tuple[Path, str], tmp_path: Path) -> None:
    image = write(committed, f"oci:{tmp_path}/out:a")
    write(committed, f"oci-archive:{tmp_path}/out.tar:a")
    write(committed, f"oci:{tmp_path}/out:b")
    for source in (f"oci:{tmp_path}/out:a", f"oci:{tmp_path}/out:b", f"oci-archive:{tmp_path}/out.tar:a"):
        assert run("skopeo", "inspect", "--format={{.Digest}}", source).strip() == image.digest
        assert run("skopeo", "inspect", "--raw", source).encode() == image.manifest
        run("skopeo", "--insecure-policy", "copy", "--quiet", source, f"oci-archive:{tmp_path}/copy.tar:a")
        copied = parse_reference(f"oci-archive:{tmp_path}/copy.tar:a")
        assert read_manifest(copied, Reporter()) == image.manifest
        (tmp_path / "copy.tar").unlink()


@needs("skopeo")
def test_what_only_skopeo_writes(committed: tuple[Path, str], tmp_path: Path) -> None:
    image = write(committed, f"dir:{tmp_path}/out")
    assert image.digest == write(committed, f"oci:{tmp_path}/layout").digest
    assert (tmp_path / "out/manifest.json").read_bytes() == image.manifest
    assert read_manifest(parse_reference(f"dir:{tmp_path}/out"), Reporter()) == image.manifest


@needs("skopeo")
def test_what_skopeo_refuses_is_told(committed: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        write(committed, f"dir:{tmp_path}/no/where")
    assert "cannot copy the image to dir:" in caught.value.message
    assert any("no such file" in line for line in caught.value.details)


def test_a_machine_without_skopeo(committed: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        write(committed, "registry:localhost/x")
    assert "skopeo is not installed" in caught.value.message
    assert "oci:DIR" in (caught.value.hint or "")
    with pytest.raises(UsageError):
        skopeo.raw_manifest(parse_reference("docker://localhost/x"))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry, and nobody else's settings."""
    with serve(tmp_path) as (where, home):
        monkeypatch.setenv("HOME", str(home))
        yield where


@needs("skopeo")
def test_a_registry(committed: tuple[Path, str], tmp_path: Path, registry: str) -> None:
    image = write(committed, f"registry:{registry}/os/tiny:1")
    assert image.digest == write(committed, f"oci:{tmp_path}/layout").digest
    for name in (f"docker://{registry}/os/tiny:1", f"registry:{registry}/os/tiny@{image.digest}"):
        assert read_manifest(parse_reference(name), Reporter()) == image.manifest
    with pytest.raises(ImageError, match="cannot read the manifest of registry:"):
        read_manifest(parse_reference(f"docker://{registry}/os/tiny:2"), Reporter())


@needs("skopeo")
def test_one_of_several_architectures(
    committed: tuple[Path, str], tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"oci:{tmp_path}/out"
    images = {each: write(committed, f"{place}:{each}", ImageOptions(arch=each)) for each in ("amd64", "arm64")}
    target = f"docker://{registry}/os/tiny:both"
    combined = combine([parse_reference(f"{place}:{each}") for each in images], parse_reference(target), Reporter())
    assert combine([parse_reference(target)], parse_reference(f"{place}:one"), Reporter()).parts == combined.parts[:1]
    # in the same repository only the index is written
    for each in images:
        run("skopeo", "--insecure-policy", "copy", "--quiet", f"{place}:{each}", f"docker://{registry}/os/tiny:{each}")
    beside = [parse_reference(f"registry:{registry}/os/tiny:{each}") for each in reversed(images)]
    again = combine(beside, parse_reference(f"registry:{registry}/os/tiny:again"), Reporter())
    assert again == combined
    assert combine(beside, parse_reference(f"{place}:both"), Reporter()) == combined
    assert combine(beside, parse_reference(f"oci-archive:{tmp_path}/both"), Reporter()) == combined
    for machine, architecture in (("x86_64", "amd64"), ("aarch64", "arm64")):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        for name in (f"{place}:both", f"oci-archive:{tmp_path}/both", target, f"docker://{registry}/os/tiny:again"):
            found = read_existing(parse_reference(name), Reporter())
            assert found is not None
            assert f"sha256:{found.digest}" == images[architecture].digest
            assert (found.labels["ostree.commit"], found.platform["architecture"]) == (committed[1], architecture)
            assert read_manifest(parse_reference(name), Reporter()) == images[architecture].manifest
            # as the judge sees it
            override = (f"--override-arch={architecture}", "--override-os=linux")
            assert (
                run("skopeo", *override, "inspect", "--format={{.Labels.version}}", parse_reference(name).skopeo)
                == "1\n"
            )
    top = json.loads(run("skopeo", "inspect", "--raw", target))
    assert [each["platform"]["architecture"] for each in top["manifests"]] == ["amd64", "arm64"]
    assert top["annotations"]["org.opencontainers.image.version"] == "1"
    assert f"sha256:{hashlib.sha256(run('skopeo', 'inspect', '--raw', target).encode()).hexdigest()}" == combined.digest


@needs("skopeo")
@pytest.mark.parametrize("how", ["storage", "zstd:chunked"])
def test_annotations_get_lost_but_not_what_they_say(
    committed: tuple[Path, str], tmp_path: Path, registry: str, how: str
) -> None:
    source = f"oci:{tmp_path}/out:a"
    write(committed, source)
    flags = ("--dest-compress-format=zstd:chunked", "--dest-force-compress-format") if how == "zstd:chunked" else ()
    if how == "storage":
        storage = f"containers-storage:[vfs@{tmp_path}/storage+{tmp_path}/run]localhost/os:1"
        run("skopeo", "--insecure-policy", "copy", "--quiet", source, storage)
        source = storage
    target = f"docker://{registry}/os/{how.partition(':')[0]}:1"
    run("skopeo", "--insecure-policy", "copy", "--quiet", *flags, source, target)
    found = read_existing(parse_reference(target), Reporter())
    assert found is not None
    assert not any("ostree.components" in (each.get("annotations") or {}) for each in found.manifest["layers"])
    assert previous_layers(found.manifest, "x", found.comments).layers == (("tools",), ())


@needs("umoci")
def test_umoci_unpacks_it(committed: tuple[Path, str], tmp_path: Path) -> None:
    write(committed, f"oci:{tmp_path}/out:a")
    done = subprocess.run(
        ["umoci", "unpack", f"--image={tmp_path}/out:a", str(tmp_path / "bundle")],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert seen(tmp_path / "bundle/rootfs") == wanted(committed, tmp_path)
