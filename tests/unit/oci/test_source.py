"""Images that others are made of: compressions, damage, configurations."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from compose.blobs import BlobStore
from compose.errors import ImageError, UsageError
from compose.events import Reporter, Task
from compose.oci.archive import write_archive
from compose.oci.reference import Transport, parse_source
from compose.oci.source import SourceImage, read_source
from tests.support.layers import layer, member, write_layout

ROOT = layer(member("usr/f", data=b"1" * 300_000))


class Counting(Reporter):
    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        self.total = total
        outer = self

        class Counted(Task):
            def advance(self, amount: int = 1, *, detail: str = "") -> None:
                outer.done += amount

        return Counted()


def read(path: Path, reporter: Reporter | None = None, transport: str = "oci") -> SourceImage:
    store = BlobStore(str(path.parent / "store"))
    return read_source(parse_source(f"{transport}:{path}"), store, reporter or Reporter(), writer="x")


def frame(data: bytes) -> bytes:
    """A frame of zstd that holds nothing."""
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


@pytest.mark.parametrize(
    "packed",
    [
        ROOT,
        gzip.compress(ROOT),
        gzip.compress(ROOT[:1000]) + gzip.compress(ROOT[1000:]),
        gzip.compress(ROOT) + bytes(100),
        zstandard.compress(ROOT),
        frame(b"x") + zstandard.compress(ROOT[:1000]) + zstandard.compress(ROOT[1000:]) + frame(b"table of contents"),
    ],
    ids=["tar", "gzip", "members", "padded", "zstd", "frames"],
)
def test_compressions(tmp_path: Path, packed: bytes) -> None:
    """Whatever the media type says."""
    write_layout(tmp_path / "image", [ROOT], packed=[packed])
    reporter = Counting()
    found = read(tmp_path / "image", reporter)
    assert found.root.tree["usr/f"].blob.size == 300_000
    assert reporter.done == reporter.total == len(packed)
    write_archive(str(tmp_path / "image"), str(tmp_path / "archive"))
    assert read(tmp_path / "archive", transport="oci-archive") == found


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(ROOT)[:-20],
        gzip.compress(ROOT)[:-4] + b"abcd",
        gzip.compress(ROOT) + b"garbage",
        zstandard.compress(ROOT)[:-20],
        zstandard.compress(ROOT)[:8] + b"\xff" * 40,
        gzip.compress(ROOT + b"more"),
        gzip.compress(layer(member("usr/f", data=b"2"))),
        b"",
        b"\xfd7zXZ\0" + bytes(600),
    ],
    ids=["short", "length", "garbage", "short zstd", "bad zstd", "more", "other", "nothing", "xz"],
)
def test_what_is_in_a_layer_is_not_what_the_image_says(tmp_path: Path, packed: bytes) -> None:
    write_layout(tmp_path / "image", [ROOT], packed=[packed])
    with pytest.raises(
        ImageError, match=r"layer 1 of 1 \(sha256:[0-9a-f]{12}\): (is damaged|cannot be|the layer cannot be)"
    ):
        read(tmp_path / "image")


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_damaged_blobs(tmp_path: Path, which: str, archived: bool) -> None:
    manifest = write_layout(tmp_path / "image", [ROOT], packed=[ROOT])
    rows = {
        "manifest": json.loads((tmp_path / "image/index.json").read_text())["manifests"][0],
        "config": manifest["config"],
        "layer": manifest["layers"][0],
    }
    blob = tmp_path / "image/blobs" / rows[which]["digest"].replace(":", "/")
    # behind the end of a layer, where only a digest looks
    blob.write_bytes(blob.read_bytes()[:-1] + b" ")
    write_archive(str(tmp_path / "image"), str(tmp_path / "archive"))
    with pytest.raises(ImageError, match="damaged"):
        read(tmp_path / ("archive" if archived else "image"), transport="oci-archive" if archived else "oci")
    blob.unlink()
    write_archive(str(tmp_path / "image"), str(tmp_path / "archive"))
    with pytest.raises(ImageError, match=r"cannot read|has no"):
        read(tmp_path / ("archive" if archived else "image"), transport="oci-archive" if archived else "oci")


def test_a_link_in_an_archive_is_no_blob(tmp_path: Path) -> None:
    write_layout(tmp_path / "image", [ROOT])
    write_archive(str(tmp_path / "image"), str(tmp_path / "archive"))
    with tarfile.open(tmp_path / "archive") as old, tarfile.open(tmp_path / "new", "w") as new:
        for each in old.getmembers():
            if each.size > 1000 or each.name == "index.json":
                each.size, each.type, each.linkname = 0, tarfile.SYMTYPE, each.name
            new.addfile(each, old.extractfile(each) if each.isreg() else None)
    with pytest.raises(ImageError, match=r"has no index\.json"):
        read(tmp_path / "new", transport="oci-archive")


def test_what_goes_on(tmp_path: Path) -> None:
    inner = {
        "Env": ["A=b"], "Cmd": None, "Entrypoint": ["/init"], "User": "1", "Hostname": "abc", "Healthcheck": {},
        "Labels": {"a": "b", "ostree.commit": "c", "ostree.final-diffid": "d", "rpmostree.inputhash": "e"},
    }  # fmt: skip
    config = {"config": inner, "created": "2020-01-02T03:04:05.678+01:00", "architecture": "arm64", "author": "me"}
    write_layout(tmp_path / "image", [ROOT], config=config)
    found = read(tmp_path / "image")
    assert found.config == {"Env": ["A=b"], "Entrypoint": ["/init"], "User": "1", "Labels": {"a": "b"}}
    assert (found.created, found.architecture) == (1577930645, "arm64")


@pytest.mark.parametrize(
    ("config", "created"),
    [({}, None), ({"config": None, "created": "?"}, None), ({"created": "1970-01-01T00:00:00Z"}, 0)],
)
def test_what_is_not_said(tmp_path: Path, config: dict[str, Any], created: int | None) -> None:
    write_layout(tmp_path / "image", [ROOT], config=config)
    found = read(tmp_path / "image")
    assert (found.config, found.created) == ({}, created)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"os": "windows"}, "an image for windows"),
        ({"architecture": "vax"}, "the unknown architecture vax"),
        ({"rootfs": {"diff_ids": []}}, "its configuration does not match"),
        ({"rootfs": None}, "its configuration does not match"),
        ({"rootfs": {"diff_ids": ["md5:x"]}}, "not a sha256 digest"),
        ({"rootfs": {"diff_ids": [7]}}, "not a sha256 digest"),
        ({"config": {"Env": "A=b"}}, "Env must be a list"),
        ({"config": {"Labels": {"a": 1}}}, "Labels must be strings"),
        ({"config": {"Labels": {"a": "\ud800"}}}, "it contains a lone surrogate"),
    ],
)
def test_configurations_that_are_none(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    write_layout(tmp_path / "image", [ROOT], config=config)
    with pytest.raises(ImageError, match=said):
        read(tmp_path / "image")


def test_an_image_of_no_system(tmp_path: Path) -> None:
    write_layout(tmp_path / "image", [layer(member("app/x"))])
    with pytest.raises(ImageError, match="has no /usr"):
        read(tmp_path / "image")
    with pytest.raises(ImageError, match="cannot open"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "transport", "name"),
    [
        ("localhost/a:1", Transport.CONTAINERS_STORAGE, "localhost/a:1"),
        ("a", Transport.CONTAINERS_STORAGE, "a"),
        ("docker:latest", Transport.CONTAINERS_STORAGE, "docker:latest"),
        ("containers-storage:a", Transport.CONTAINERS_STORAGE, "a"),
        ("docker://a/b", Transport.REGISTRY, "a/b"),
        ("oci:x:1", Transport.OCI, "x"),
    ],
)
def test_names_of_sources(text: str, transport: Transport, name: str) -> None:
    found = parse_source(text)
    assert (found.transport, found.name) == (transport, name)


@pytest.mark.parametrize("text", ["", "oci:", "ostree-unverified-image:oci:x", "dir:"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_source(text)
