"""Layers of small commits, read as clients read them; damage and limits."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from compose.errors import ComposeError, RepositoryError
from compose.events import Reporter
from compose.oci.chunking import Chunk
from compose.oci.encapsulate import Image, encapsulate
from compose.oci.image import PLAIN
from compose.oci.reference import parse_reference
from compose.ostree.config import Mode
from compose.ostree.gvariant import Variant
from compose.ostree.repo import Repo
from tests.support.commits import Item, file, link, write_commit
from tests.support.imageimporter import Entry, Imported, blob, entries, import_image, read_image

_LABEL = ((b"security.selinux", b"system_u:object_r:bin_t:s0\0"),)
_CAPABILITY = ((b"security.capability", b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), *_LABEL)
_LONG = "/".join(["usr/share", *(f"{number}-{'x' * 60}" for number in range(4))])
_BOOTABLE = (("ostree.bootable", Variant("b", True)), ("version", Variant("s", "1")))

TREE = {
    "usr": Item(mode=0o755, xattrs=_LABEL),
    "usr/bin/tool": file(b"#!/bin/sh\n", 0o755, xattrs=_LABEL),
    "usr/bin/same": file(b"#!/bin/sh\n", 0o755, xattrs=_LABEL),
    "usr/bin/ping": file(b"ping", 0o755, xattrs=_CAPABILITY),
    "usr/bin/su": file(b"su", 0o4755),
    "usr/bin/sh": link("tool", _LABEL),
    "usr/lib/double": link("../../..//sbin/chkconfig"),
    "usr/lib/far": link("/" + "y" * 200),
    "usr/etc/passwd": file(b"root"),
    "usr/etc/conf.d": Item(mode=0o750, uid=7, gid=8),
    "usr/lib/empty": file(b""),
    "usr/lib/none": file(b"", xattrs=((b"user.note", b"x\n\0y"), *_LABEL)),
    "usr/lib/owner": file(b"o", uid=3_000_000, gid=4_000_000_000),
    "usr/lib/näme": file(b"n"),
    f"{_LONG}/file": file(b"long"),
    "sysroot": Item(),
    "ostree": link("sysroot/ostree"),
    "proc": Item(),
    "var": Item(mode=0o755),
}


class Warnings(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repo]:
    with Repo.create(str(tmp_path / "repo"), Mode.BARE_USER) as opened:
        yield opened


def write(
    repo: Repo, commit: str, target: str, *chunks: Chunk, parents: bool = False, reporter: Reporter | None = None
) -> Image:
    return encapsulate(
        repo, commit, chunks, parse_reference(target), PLAIN, parents=parents, jobs=2, reporter=reporter or Reporter()
    )


def imported(repo: Repo, tree: Mapping[str, Item], tmp_path: Path, **more) -> Imported:
    commit = write_commit(repo, tree, **more)
    write(repo, commit, f"oci:{tmp_path}/out")
    found = import_image(tmp_path / "out")
    assert found.commit == commit
    return found


def chunk(repo: Repo, commit: str, name: str, *paths: str) -> Chunk:
    files = {path: checksum.hex() for path, checksum, meta in repo.walk(commit) if meta is None}
    return Chunk(name=name, components=(name,), objects=tuple(sorted({files[path] for path in paths})), size=len(paths))


def layer(layout: Path, number: int) -> list[Entry]:
    manifest, _ = read_image(layout)
    return [*entries(zlib.decompress(blob(layout, manifest["layers"][number]), 31))]


def test_one_layer(repo: Repo, tmp_path: Path) -> None:
    found = imported(repo, TREE, tmp_path, metadata=_BOOTABLE, subject="A tree")
    seen = found.visible
    assert (seen[""].mode, seen["usr"].mode, seen["proc"].mode) == (0o755,) * 3
    conf = seen["etc/conf.d"]
    assert (conf.kind, conf.mode, conf.uid, conf.gid) == ("dir", 0o750, 7, 8)
    assert seen["usr/bin/tool"].target == seen["usr/bin/same"].target
    assert (seen["usr/bin/su"].kind, seen["usr/bin/su"].mode) == ("link", 0o4755)
    assert seen["usr/bin/sh"].kind == "link"
    assert (seen["usr/lib/owner"].uid, seen["usr/lib/owner"].gid) == (3_000_000, 4_000_000_000)
    assert seen[f"{_LONG}/file"].kind == "link"
    assert "usr/etc" not in seen
    assert seen["var/tmp"].mode == 0o1777
    # several paths must not become one file that a container writes to
    assert (seen["usr/lib/empty"].kind, seen["usr/lib/none"].kind) == ("file", "file")
    # what unpackers set; no label
    assert seen["usr/lib/none"].pax == {"user.note": b"x\n\0y"}
    _, config = read_image(tmp_path / "out")
    assert [each["created_by"] for each in config["history"]] == ["A tree"]


def test_objects_have_their_capabilities_for_containers(repo: Repo, tmp_path: Path) -> None:
    write(repo, write_commit(repo, TREE), f"oci:{tmp_path}/out")
    found = {each.name: each for each in layer(tmp_path / "out", 0)}
    assert set(found[found["usr/bin/ping"].target].pax) == {"security.capability"}


@pytest.mark.parametrize("parents", [False, True])
def test_directories_have_what_users_attached(repo: Repo, tmp_path: Path, parents: bool) -> None:
    """A user.component, for an image made from this one; not labels, nor what overlayfs would take for its own."""
    xattrs = ((b"trusted.overlay.opaque", b"y"), (b"user.component", b"a"), *_LABEL)
    commit = write_commit(repo, {**TREE, "usr/share/a": Item(xattrs=xattrs), "usr/share/a/b": file(b"b")})
    some = chunk(repo, commit, "a", "usr/share/a/b")
    write(repo, commit, f"oci:{tmp_path}/out", some, parents=parents)
    import_image(tmp_path / "out")
    for number in range(1 + parents):
        found = {each.name: each.pax for each in layer(tmp_path / "out", number)}
        assert found["usr/share/a"] == {"user.component": b"a"}
        assert not found["usr"]


def test_several_layers(repo: Repo, tmp_path: Path) -> None:
    commit = write_commit(repo, TREE, metadata=_BOOTABLE)
    tools = chunk(repo, commit, "tools", "usr/bin/tool", "usr/bin/same", "usr/bin/ping", "usr/bin/sh")
    etc = chunk(repo, commit, "etc", "usr/etc/passwd", f"{_LONG}/file")
    image = write(
        repo, commit, f"oci:{tmp_path}/out:a", tools, etc, Chunk(name="new", components=(), objects=(), size=0)
    )
    found = import_image(tmp_path / "out", "a")
    assert found.files[1:] == [set(tools.objects), set(etc.objects), set()]
    assert set(found.visible) >= {"usr/bin/same", "etc/passwd", "usr/lib/empty"}
    manifest, config = read_image(tmp_path / "out", "a")
    assert [each.get("annotations") for each in manifest["layers"]] == [
        None, {"ostree.components": "tools"}, {"ostree.components": "etc"}, {"ostree.components": ""},
    ]  # fmt: skip
    assert [each["created_by"] for each in config["history"][1:]] == ["tools", "etc", "new"]
    assert f"sha256:{image.layers[-1].diffid}" == config["config"]["Labels"]["ostree.final-diffid"]


@pytest.mark.parametrize("parents", [False, True])
def test_directories_above_what_is_in_a_layer(repo: Repo, tmp_path: Path, parents: bool) -> None:
    commit = write_commit(repo, {**TREE, "usr/etc/conf.d/a": file(b"a"), "usr/etc/conf.d/b": file(b"b")})
    some = chunk(repo, commit, "etc", "usr/etc/conf.d/a", "usr/etc/conf.d/b")
    write(repo, commit, f"oci:{tmp_path}/out", some, parents=parents)
    import_image(tmp_path / "out")
    seen = [each for each in layer(tmp_path / "out", 1) if not each.name.startswith("sysroot")]
    above = ["etc", "etc/conf.d"] if parents else []
    assert sorted(each.name for each in seen) == [*above, "etc/conf.d/a", "etc/conf.d/b"]
    if parents:
        assert (seen[1].name, seen[1].mode, seen[1].uid) == ("etc/conf.d", 0o750, 7)


def test_the_kind_of_repository_does_not_matter(tmp_path: Path) -> None:
    digests = set()
    # more than a piece, of which each reader has its own idea
    tree = {**TREE, "usr/lib/large": file(os.urandom(3 << 20) + bytes(3 << 20))}
    for mode in (Mode.ARCHIVE, Mode.BARE_USER):
        with Repo.create(str(tmp_path / mode), mode) as repo:
            commit = write_commit(repo, tree)
            digests.add(write(repo, commit, f"oci-archive:{tmp_path}/{mode}.tar").digest)
    assert len(digests) == 1
    assert (tmp_path / "archive-z2.tar").read_bytes() == (tmp_path / "bare-user.tar").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["archive-z2", "archive-z2.tar", "bare-user", "bare-user.tar"]


def test_detached_metadata_goes_along(repo: Repo, tmp_path: Path) -> None:
    found = imported(repo, TREE, tmp_path, detached=(("some.key", Variant("s", "signed")),))
    assert b"signed" in found.detached


def test_what_containers_would_take_for_something_else(repo: Repo, tmp_path: Path) -> None:
    said = Warnings()
    tree = {
        "usr/lib/.wh.gone": file(b"g"), "usr/lib/.wh.dir/below": file(b"b"), "sysroot/ostree/mine": file(b"m"),
        "sysroot/other": file(b"o"), "var/tmp": Item(mode=0o700),
    }  # fmt: skip
    commit = write_commit(repo, tree)
    write(repo, commit, f"oci:{tmp_path}/out", reporter=said)
    found = import_image(tmp_path / "out")
    ours = {"sysroot", "sysroot/ostree", "sysroot/ostree/repo"}
    assert set(found.visible) - ours == {"", "usr", "usr/lib", "var", "var/tmp", "sysroot/other"}
    assert found.visible["var/tmp"].mode == 0o700
    assert "2 file names begin with .wh., such as /usr/lib/.wh.dir" in said.said[0]


def test_both_etc_and_usr_etc(repo: Repo, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="both /etc and /usr/etc"):
        imported(repo, {"etc/a": file(b"a"), "usr/etc/b": file(b"b")}, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["repo"]
    assert "etc/a" in imported(repo, {"etc/a": file(b"a")}, tmp_path).visible


@pytest.mark.parametrize(
    "tree",
    [{"etc": link("usr/etc"), "usr/etc/b": file(b"b")}, {"etc/a": file(b"a"), "usr/etc": link("../etc")}],
    ids=["etc", "usr/etc"],
)
def test_etc_that_is_a_symlink_beside_the_other(repo: Repo, tmp_path: Path, tree: dict[str, Item]) -> None:
    with pytest.raises(RepositoryError, match="both /etc and /usr/etc"):
        imported(repo, tree, tmp_path)


@pytest.mark.parametrize(("path", "kind"), [("var", "link"), ("var/tmp", "link")])
def test_var_that_is_a_symlink_stays_one(repo: Repo, tmp_path: Path, path: str, kind: str) -> None:
    write(repo, write_commit(repo, {"usr/a": file(b"a"), path: link("elsewhere")}), f"oci:{tmp_path}/out")
    found = [each.kind for each in layer(tmp_path / "out", 0) if each.name == path or each.name.startswith(f"{path}/")]
    assert found == [kind]


def test_metadata_that_importers_refuse_is_told_now(repo: Repo, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="importers of container images accept"):
        imported(repo, TREE, tmp_path, metadata=(("large", Variant("ay", bytes(11 << 20))),))
    assert not (tmp_path / "out").exists()


def test_damage_is_found_and_leaves_nothing(repo: Repo, tmp_path: Path) -> None:
    commit = write_commit(repo, TREE)
    (checksum,) = (each for path, each, _ in repo.walk(commit) if path == "usr/bin/ping")
    damaged = Path(repo.path, "objects", checksum.hex()[:2], f"{checksum.hex()[2:]}.file")
    data = damaged.read_bytes()
    damaged.write_bytes(data[::-1])
    for target in ("oci:{}/out", "oci-archive:{}/out.tar"):
        with pytest.raises(ComposeError) as caught:
            write(repo, commit, target.format(tmp_path))
        assert checksum.hex() in caught.value.message
        assert "its checksum differs" in caught.value.message
    assert sorted(os.listdir(tmp_path)) == ["repo"]


def test_a_commit_that_is_there_in_part(repo: Repo, tmp_path: Path) -> None:
    commit = write_commit(repo, TREE)
    Path(repo.path, "state", f"{commit}.commitpartial").touch()
    with pytest.raises(RepositoryError, match="is partial"):
        write(repo, commit, f"oci:{tmp_path}/out")
