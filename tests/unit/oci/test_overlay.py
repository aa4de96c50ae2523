"""Layers one upon another, and those that want more than their root."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import ImageError
from compose.oci import tar
from compose.oci.overlay import Overlay
from compose.oci.untar import TarReader
from compose.rootfs import Root
from tests.support.layers import directory, hard_link, layer, member, symlink


class Roomy(BlobStore):
    def has_room(self, size: int) -> bool:
        return size < 1000


def apply(tmp_path: Path, *layers: bytes, without: tuple[str, ...] = ()) -> Root:
    overlay = Overlay(Roomy(str(tmp_path / "blobs")), "image")
    for number, stream in enumerate(layers, 1):
        overlay.apply(TarReader(io.BytesIO(stream), "x"), f"layer {number}")
    return overlay.finish(without=without)


def paths(root: Root) -> list[str]:
    return sorted(path for path in root.tree.entries if path)


def test_what_a_layer_says_of_files(tmp_path: Path) -> None:
    pax = {"SCHILY.xattr.user.a": "b", "SCHILY.xattr.security.selinux": "l", "SCHILY.xattr.trusted.x": "y"}
    root = apply(
        tmp_path,
        layer(
            directory("./", mode=0o700, uid=5),
            member("./a/b/f", data=b"12", mode=0o4755, uid=1, gid=2, mtime=77.5, pax_headers=pax),
            symlink("./a/s", "/../f"),
            hard_link("./a/h", "./a/b/f"),
            hard_link("a/t", "a/s"),
        ),
    )
    tree = root.tree
    assert paths(root) == ["a", "a/b", "a/b/f", "a/h", "a/s", "a/t"]
    assert (tree[""].permissions, tree[""].uid) == (0o700, 5)
    assert (tree["a"].permissions, tree["a"].uid, tree["a"].is_dir) == (0o755, 0, True)
    file = tree["a/b/f"]
    assert (file.permissions, file.uid, file.gid, file.mtime, file.blob.size) == (0o4755, 1, 2, 77, 2)
    assert file.xattrs == ((b"user.a", b"b"),)
    assert tree["a/h"] == file
    assert file.link
    assert (tree["a/s"].target, tree["a/t"].target) == ("/../f", "/../f")
    assert {entry.writer for entry in tree.entries.values()} == {"image"}


def test_whiteouts(tmp_path: Path) -> None:
    lower = layer(
        member("a/gone", data=b"1"), member("a/dir/x"), member("a/stays"), member("b/c/low"), member("b/low"),
        directory("keep", mode=0o700), member("keep/x"), member("top"),
    )  # fmt: skip
    upper = layer(
        member("a/.wh.gone"), member("a/.wh.dir"), member("nowhere/.wh.x"), member(".wh.top"),
        # what is before it and behind it in the same layer stays
        member("b/c/new"), member("b/.wh..wh..opq"), member("b/more"),
        member("keep/y"), member(".wh..wh.plnk/x"), member(".wh..wh.aufs"),
    )  # fmt: skip
    root = apply(tmp_path, lower, upper)
    assert paths(root) == ["a", "a/stays", "b", "b/c", "b/c/new", "b/more", "keep", "keep/x", "keep/y"]
    assert root.tree["keep"].permissions == 0o700
    # it hides what is below, not what is beside it
    root = apply(tmp_path, lower, layer(member("a/new"), member(".wh.a"), member("a/other")))
    assert {"a/new", "a/other"} <= set(paths(root))
    assert not {"a/gone", "a/dir", "a/stays"} & set(paths(root))
    assert paths(apply(tmp_path, lower, layer(member(".wh..wh..opq"), member("x")))) == ["x"]


def test_one_thing_takes_the_place_of_another(tmp_path: Path) -> None:
    lower = layer(member("usr/lib/x"), symlink("lib", "usr/lib"), directory("d"), member("d/y"), member("f", data=b"1"))
    upper = layer(
        directory("lib"), member("lib/z"), member("d", data=b"2"), directory("f"), hard_link("usr/h", "lib/z")
    )
    root = apply(tmp_path, lower, upper)
    assert paths(root) == ["d", "f", "lib", "lib/z", "usr", "usr/h", "usr/lib", "usr/lib/x"]
    assert root.tree["d"].is_file
    assert root.tree["f"].is_dir
    # a link is a file of its own once its source is another
    linked = layer(member("a", data=b"old"), hard_link("b", "a"))
    again = layer(member("a", data=b"new"), hard_link("c", "a"))
    tree = apply(tmp_path, linked, again).tree
    assert tree["a"] == tree["c"] != tree["b"]
    assert tree["a"].link != tree["b"].link


def test_what_no_tree_holds(tmp_path: Path) -> None:
    lower = layer(
        member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3), member("dev/sda", tarfile.BLKTYPE, devmajor=8),
        member("dev/pipe", tarfile.FIFOTYPE), member("store/x", tarfile.CHRTYPE), member("d/e", tarfile.FIFOTYPE),
        hard_link("dev/zero", "dev/null"),
    )  # fmt: skip
    with pytest.raises(ImageError) as caught:
        apply(tmp_path, lower)
    assert caught.value.details == (
        "/dev/pipe is a fifo, which cannot be committed", "/d/e is a fifo, which cannot be committed"
    )  # fmt: skip
    root = apply(tmp_path, lower, layer(member("dev/.wh.pipe"), member("d/.wh..wh..opq"), member("dev/sda", data=b"")))
    assert root.devices == ("dev/null", "dev/zero")
    assert root.whiteouts == ("store/x",)
    assert paths(root) == ["d", "dev", "dev/sda", "store", "store/.ostree-wh.x"]
    assert apply(tmp_path, lower, layer(member(".wh.dev"), member(".wh.d"))).devices == ()


def test_what_is_left_out(tmp_path: Path) -> None:
    """Files of an image of OSTree are links to what is there."""
    stream = layer(
        directory("sysroot", mode=0o700), member("sysroot/o.file", data=b"1"), hard_link("usr/f", "sysroot/o.file"),
        member("sysroot/dev", tarfile.CHRTYPE, devmajor=1), member("sysroot/pipe", tarfile.FIFOTYPE),
    )  # fmt: skip
    root = apply(tmp_path, stream, without=("sysroot",))
    assert paths(root) == ["sysroot", "usr", "usr/f"]
    assert root.devices == ()
    assert root.tree["usr/f"].blob.size == 1


def test_deeper_than_calls_can_be(tmp_path: Path) -> None:
    root = apply(tmp_path, layer(member("d/" * 2000 + "f")), layer(member("d/.wh..wh..opq")))
    assert paths(root) == ["d"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([member("../x")], "leads out of its directory"),
        ([member("a/../../x")], "leads out of its directory"),
        ([member("/etc/passwd")], "is an absolute path"),
        ([hard_link("x", "../../etc/shadow")], "leads out of its directory"),
        ([hard_link("x", "/etc/shadow")], "is an absolute path"),
        ([hard_link("x", "y")], "/y, which does not exist"),
        ([hard_link("x", "x")], "/x, which does not exist"),
        ([directory("d"), hard_link("x", "d")], "hard link to the directory /d"),
        ([symlink("s", "/etc"), member("s/passwd")], "/s/passwd is below /s, which is a symlink to /etc"),
        ([symlink("s", "."), member("s/a/b/c")], "is below /s, which is a symlink"),
        ([symlink("s", "/etc"), hard_link("x", "s/shadow")], "/s/shadow, which does not exist"),
        ([symlink("s", "/etc"), member("s/.wh.passwd")], "a whiteout is below /s, which is a symlink to /etc"),
        ([symlink("s", "/etc"), member("s/.wh..wh..opq")], "a whiteout is below /s, which is a symlink"),
        ([member("f"), member("f/x")], "/f/x is below /f, which is a file"),
        ([member("p", tarfile.FIFOTYPE), member("p/x")], "/p/x is below /p, which is a fifo"),
        ([member(".wh.a/b")], "below a whiteout"),
        ([member("d/.wh.")], "not a valid whiteout"),
        ([member("d/.wh...")], "not a valid whiteout"),
        ([member("n" * 256)], "not a possible file name"),
        ([member("/".join(["n" * 200] * 30))], r"too long for a path"),
        ([member(".")], "the root is not a directory"),
        ([symlink("s", "")], "an impossible target"),
        ([symlink("s", "x" * 5000)], "an impossible target"),
        ([member("f", data=bytes(1000))], "/f has 1000 bytes, more than there is room for"),
        ([member("f", pax_headers={"SCHILY.xattr.user." + "x" * 300: "y"})], "an impossible extended attribute"),
        ([member("f", pax_headers={"SCHILY.xattr.user.x": "y" * 70_000})], "an impossible extended attribute"),
    ],
)
def test_hostile_layers(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], said: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ImageError, match=said) as caught:
        apply(tmp_path, layer(*members))
    assert caught.value.message.startswith("layer 1: ")
    outside = [each for each in tmp_path.rglob("*") if each not in before and tmp_path / "blobs" not in each.parents]
    assert outside == [tmp_path / "blobs"]


def test_a_bomb_of_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose.oci.overlay._MAX_MEMORY", 100_000)
    with pytest.raises(ImageError, match="names and attributes"):
        apply(tmp_path, layer(*(member(f"f{number}") for number in range(500))))


def test_time_grows_with_the_number_of_entries(tmp_path: Path) -> None:
    def several(name: str, kind: bytes, count: int = 8000) -> bytes:
        # tarfile takes as long to write as the reader to read
        return b"".join(tar.entry(f"{name}{each}", kind, mode=0o755) for each in range(count))

    devices, many = several("dev", tarfile.FIFOTYPE), several("d", tar.DIRECTORY)
    gone = several(".wh.d", tar.REGULAR) + layer(member(".wh..wh..opq"))
    begun = time.process_time()
    assert not apply(tmp_path, devices, many, gone).tree.children("")
    assert time.process_time() - begun < 5
