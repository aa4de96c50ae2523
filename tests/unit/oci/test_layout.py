"""OCI layouts on disk: new ones, more images in one, damage."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose.errors import ComposeError, ImageError, StorageError, UsageError
from compose.events import Reporter
from compose.oci import tar
from compose.oci.archive import open_archive, write_archive
from compose.oci.documents import canonical
from compose.oci.image import digest_of
from compose.oci.images import manifest_of, open_images
from compose.oci.layout import TEMPORARY, layout_for, try_layout
from compose.oci.reference import ImageReference, Transport
from compose.oci.target import write_to
from compose.pipeline.encapsulate import EncapsulateOptions, encapsulate_commit


class Warnings(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


def add(path: Path, text: str, tag: str | None = None, reporter: Reporter | None = None) -> bytes:
    manifest = canonical({"layers": [], "name": text})
    with layout_for(str(path), reporter or Reporter()) as layout:
        layout.insert(manifest, tag, "amd64")
    return manifest


def written(path: Path, tag: str | None = None, transport: Transport = Transport.OCI) -> bytes:
    with open_images(ImageReference(transport=transport, name=str(path)), Reporter()) as images:
        return manifest_of(images, tag)


def archived(path: Path, tag: str | None = None) -> bytes:
    return written(path, tag, Transport.OCI_ARCHIVE)


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


@pytest.mark.parametrize("there", [False, True])
def test_a_new_layout(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "out"
    if there:
        place.mkdir()
    manifest = add(place, "one", "a")
    assert (place / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
    assert written(place, "a") == manifest
    assert written(place) == manifest, "the only one needs no name"
    assert sorted(os.listdir(tmp_path)) == ["out"]
    assert sorted(os.listdir(place)) == ["blobs", "index.json", "oci-layout"]
    assert oct((place / "index.json").stat().st_mode) == "0o100644"


def test_other_images_stay(tmp_path: Path) -> None:
    place = tmp_path / "out"
    first, untagged = add(place, "one", "a"), add(place, "two")
    index = place / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"annotations": {"of": "others"}}))
    second = add(place, "three", "b")
    again = add(place, "four", "a")
    assert written(place, "b") == second
    assert written(place, "a") == again != first
    assert written(place) == untagged
    assert json.loads(index.read_text())["annotations"] == {"of": "others"}
    add(place, "five")
    assert len(json.loads(index.read_text())["manifests"]) == 3


def test_an_image_without_a_tag_among_others(tmp_path: Path) -> None:
    """containers/image finds none such: more than one image in oci, choose an image."""
    place, said = tmp_path / "out", Warnings()
    add(place, "one", reporter=said)
    add(place, "two", reporter=said)
    add(place, "three", "a", said)
    assert not said.said
    add(place, "four", reporter=said)
    assert "give a tag" in said.said[0]


def test_which_image_is_asked_when_there_are_several(tmp_path: Path) -> None:
    place = tmp_path / "out"
    add(place, "one", "a")
    add(place, "two", "b")
    for tag, said in ((None, "has 2 images: name one by its tag"), ("c", "has no image c")):
        with pytest.raises(ImageError) as caught:
            written(place, tag)
        assert said in caught.value.message
        assert caught.value.hint == "existing tags: a, b"


def test_a_blob_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    place = tmp_path / "out"
    manifest = add(place, "one", "a")
    blob = place / "blobs/sha256" / digest_of(manifest)
    before = blob.stat()
    add(place, "one", "b")
    assert (blob.stat().st_ino, blob.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_damaged_blob_is_written_anew(tmp_path: Path, damage: bytes | None) -> None:
    place, said = tmp_path / "out", Warnings()
    manifest = add(place, "one", "a")
    blob = place / "blobs/sha256" / digest_of(manifest)
    blob.write_bytes(damage if damage is not None else b"x" * len(manifest))
    with pytest.raises(ImageError, match="is damaged"):
        written(place, "a")
    add(place, "one", "a", said)
    assert written(place, "a") == manifest
    assert "is damaged and is replaced" in said.said[0]


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_what_fails(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "out"
    if there:
        place.mkdir()
    with pytest.raises(ZeroDivisionError), layout_for(str(place), Reporter()) as layout:
        layout.write(b"blob")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == (["out"] if there else [])
    assert not there or not os.listdir(place)


def test_a_layout_that_was_there_stays_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "out"
    add(place, "one", "a")
    before = snapshot(place)
    with (
        pytest.raises(ZeroDivisionError),
        layout_for(str(place), Reporter()) as layout,
        layout.blob() as blob,
    ):
        blob.write(b"half")
        raise ZeroDivisionError
    assert snapshot(place) == before


def test_filesystems_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # EISDIR, as where they are not known
    place = tmp_path / "out"
    manifest = add(place, "one", "a")
    # as a process leaves it that is killed
    for killed in (place / "blobs/sha256/.0123456789ab.tmp", place / "index.json.0123456789ab.tmp"):
        killed.touch()
        os.utime(killed, (0, 0))
    assert written(place, "a") == manifest
    with pytest.raises(ZeroDivisionError), layout_for(str(place), Reporter()) as layout, layout.blob() as blob:
        blob.write(b"half")
        raise ZeroDivisionError
    assert set(snapshot(place)) == {"oci-layout", "index.json", f"blobs/sha256/{digest_of(manifest)}"}


def _file(place: Path) -> None:
    place.write_text("x")


def _something(place: Path) -> None:
    (place / "x").mkdir(parents=True)


def _version(place: Path) -> None:
    add(place, "one")
    (place / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')


def _cut(place: Path) -> None:
    add(place, "one")
    (place / "index.json").write_text('{"manifests": [')


def _rows(place: Path) -> None:
    add(place, "one")
    (place / "index.json").write_text('{"manifests": {}}')


def _deep(place: Path) -> None:
    add(place, "one")
    (place / "index.json").write_text("[" * 200_000)


def _half(place: Path) -> None:
    add(place, "one", "x")
    (place / "index.json").write_text((place / "index.json").read_text().replace('"x"', '"\\ud800"'))


def _tag(place: Path) -> None:
    add(place, "one", "x")
    (place / "index.json").write_text((place / "index.json").read_text().replace('"x"', '["x"]'))


def _no_blobs(place: Path) -> None:
    place.mkdir()
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (_file, UsageError, "not a directory"),
        (_something, UsageError, "neither empty nor an OCI layout"),
        (_version, ImageError, "of the unknown version 2.0.0"),
        (_cut, ImageError, "index.json is damaged"),
        (_rows, ImageError, "manifests must be a list"),
        (_deep, ImageError, "nested too deeply"),
        (_half, ImageError, "it contains a lone surrogate"),
        (_tag, ImageError, "ref.name must be a string"),
        (_no_blobs, ImageError, "has no blobs/sha256"),
    ],
)
def test_what_is_no_layout_is_told_and_stays(tmp_path: Path, make, kind: type[ComposeError], said: str) -> None:
    place = tmp_path / "out"
    make(place)
    before = snapshot(tmp_path)
    with pytest.raises(kind) as caught:
        add(place, "two", "b")
    assert said in caught.value.message
    assert snapshot(tmp_path) == before


def test_a_blob_that_is_a_directory(tmp_path: Path) -> None:
    place = tmp_path / "out"
    blob = place / "blobs/sha256" / digest_of(add(place, "one", "a"))
    blob.unlink()
    blob.mkdir()
    with pytest.raises(ImageError, match=f"{blob.name}: Is a directory"):
        add(place, "one", "a")


def test_names_that_are_too_long(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        add(tmp_path / ("x" * 300), "one")
    add(tmp_path / ("x" * 255), "one")
    with pytest.raises(StorageError, match="File name too long"):
        write_archive(str(tmp_path / ("x" * 255)), str(tmp_path / ("y" * 300)))
    assert os.listdir(tmp_path) == ["x" * 255]


@pytest.mark.parametrize("transport", [Transport.OCI, Transport.OCI_ARCHIVE])
def test_a_killed_run_leaves_nothing_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> None:
    (tmp_path / f"{TEMPORARY}0123456789abcdef/layout").mkdir(parents=True)
    manifest = canonical({"layers": []})
    unfinished: set[str] = set()
    rename = os.rename

    def renaming(*args: Any, **more: Any) -> None:
        unfinished.update(os.listdir(tmp_path))
        rename(*args, **more)

    monkeypatch.setattr(os, "rename", renaming)
    target = ImageReference(transport=transport, name=str(tmp_path / "out"))
    write_to(target, lambda layout, tag: layout.insert(manifest, tag, "amd64"), Reporter())
    assert unfinished
    assert all(each.startswith(TEMPORARY) for each in unfinished)
    assert os.listdir(tmp_path) == ["out"]
    assert written(tmp_path / "out", None, transport) == manifest


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no directory"):
        add(tmp_path / "no" / "out", "one")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    add(tmp_path / "out", "one")
    blobs = tmp_path / "out/blobs/sha256"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to("/proc")
    with pytest.raises(StorageError, match=f"cannot write {blobs}"):
        try_layout(str(tmp_path / "out"), Reporter())


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("oci:{}/no/out", "there is no directory"),
        ("oci-archive:{}/no/out", "cannot write"),
        ("oci-archive:{}", "Is a directory"),
    ],
)
def test_the_target_is_checked_before_the_commit_is_read(tmp_path: Path, target: str, said: str) -> None:
    options = EncapsulateOptions(repo=str(tmp_path / "missing"), revision="x", target=target.format(tmp_path))
    with pytest.raises(ComposeError, match=said):
        encapsulate_commit(options, Reporter())


def test_a_digest_leads_nowhere_else(tmp_path: Path) -> None:
    place = tmp_path / "out"
    add(place, "one", "a")
    index = json.loads((place / "index.json").read_text())
    index["manifests"][0]["digest"] = "sha256:../../../etc/passwd"
    (place / "index.json").write_text(json.dumps(index))
    with pytest.raises(ImageError, match="not a sha256 digest"):
        written(place, "a")


def test_archives(tmp_path: Path) -> None:
    place, archive = tmp_path / "out", tmp_path / "a.tar"
    manifest = add(place, "one", "a")
    write_archive(str(place), str(archive))
    assert archived(archive, "a") == manifest
    assert archived(archive, None) == manifest
    with pytest.raises(ImageError, match="has no image b"):
        archived(archive, "b")
    before = archive.read_bytes()
    write_archive(str(place), str(archive))
    assert archive.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "out"]


def test_a_damaged_blob_in_an_archive(tmp_path: Path) -> None:
    manifest = add(tmp_path / "out", "one", "a")
    blob = tmp_path / "out/blobs/sha256" / digest_of(manifest)
    blob.write_bytes(manifest.replace(b"one", b"two"))
    write_archive(str(tmp_path / "out"), str(tmp_path / "a.tar"))
    with pytest.raises(ImageError, match="is damaged"):
        archived(tmp_path / "a.tar", "a")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_archives(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    manifest = add(tmp_path / "out", "one", "a")
    write_archive(str(tmp_path / "out"), str(tmp_path / "a.tar"))
    # as `tar` names them
    stream = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(pack(stream))
    assert archived(tmp_path / "b.tar", "a") == manifest
    with open_archive(str(tmp_path / "b.tar")) as archive, archive.open_blob(digest_of(manifest)) as blob:
        assert (blob.read(7), blob.read()) == (manifest[:7], manifest[7:])
    (tmp_path / "c.tar").write_bytes(pack(stream)[:-40])
    with pytest.raises(ImageError, match=r"c\.tar"), open_archive(str(tmp_path / "c.tar")) as archive:
        for digest in os.listdir(tmp_path / "out/blobs/sha256"):
            with archive.open_blob(digest) as blob:
                assert digest_of(blob.read()) == digest


def test_memory_does_not_grow_with_an_archive(tmp_path: Path) -> None:
    many = b"".join(tar.file(f"f{each}", b"") for each in range(5000))
    add(tmp_path / "out", "one", "a")
    write_archive(str(tmp_path / "out"), str(tmp_path / "a.tar"))
    (tmp_path / "b.tar").write_bytes(many + (tmp_path / "a.tar").read_bytes())
    (tmp_path / "c.tar").write_bytes(gzip.compress(tar.entry("f", b"L", mode=0, size=1 << 30)))
    archived(tmp_path / "a.tar", "a")
    tracemalloc.start()
    try:
        archived(tmp_path / "b.tar", "a")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(ImageError, match="exceeds the limit"):
        archived(tmp_path / "c.tar", "a")


_TO_ITSELF = tar.entry("oci-layout", tar.SYMLINK, mode=0o777, link="oci-layout") + tar.END
_COMPRESSED = gzip.compress(b"".join(hashlib.sha256(bytes([each])).digest() for each in range(255)), mtime=0)


@pytest.mark.parametrize(
    "data",
    [b"", b"x" * 5000, bytes(10240), _TO_ITSELF, _COMPRESSED[:60], _COMPRESSED[:999]],
    ids=["empty", "text", "nothing", "link", "cut", "cut later"],
)
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ImageError, match="not an OCI archive"):
        archived(tmp_path / "a.tar", None)
    with pytest.raises(ImageError, match="cannot read"):
        archived(tmp_path / "b.tar", None)
