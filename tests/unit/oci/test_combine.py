"""Images of several architectures under one name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compose.cli.app import main
from compose.errors import ComposeError, ImageError, UsageError
from compose.events import Reporter
from compose.oci.archive import write_archive
from compose.oci.combine import Combined, combine
from compose.oci.image import CONFIG_TYPE, INDEX_TYPE, LAYER_TYPE, MANIFEST_TYPE, descriptor, digest_of
from compose.oci.layout import layout_for
from compose.oci.reference import parse_reference

_TAG = "org.opencontainers.image.ref.name"
_VERSION = "org.opencontainers.image.version"


class Warnings(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


def put(place: Path, architecture: str, version: str = "1", /, **config: str) -> str:
    """Write an image, with a layer of its own and one that all have; its tag is the architecture."""
    layers = [b"shared", architecture.encode()]
    labels = {_VERSION: version, "ostree.commit": digest_of(layers[1])}
    data = json.dumps({"architecture": architecture, "os": "linux", "config": {"Labels": labels}, **config}).encode()
    with layout_for(str(place), Reporter()) as layout:
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, layout.write(data), len(data)),
            "layers": [descriptor(LAYER_TYPE, layout.write(each), len(each)) for each in layers],
            "annotations": labels,
        }
        return layout.insert(json.dumps(manifest).encode(), architecture, architecture)


def read(place: Path, tag: str | None = None) -> dict[str, Any]:
    """The document with a tag, whose digests all lead somewhere."""
    top = json.loads((place / "index.json").read_text())
    (row,) = [each for each in top["manifests"] if each.get("annotations", {}).get(_TAG) == tag]
    assert row["mediaType"] == INDEX_TYPE
    found = load(place, row)
    for each in found["manifests"]:
        manifest = load(place, each)
        for blob in (manifest["config"], *manifest["layers"]):
            assert len(blob_of(place, blob)) == blob["size"]
    return found


def blob_of(place: Path, row: dict[str, Any]) -> bytes:
    data = (place / "blobs" / row["digest"].replace(":", "/")).read_bytes()
    assert f"sha256:{digest_of(data)}" == row["digest"]
    return data


def load(place: Path, row: dict[str, Any]) -> dict[str, Any]:
    data = blob_of(place, row)
    assert len(data) == row["size"]
    return json.loads(data)


def of(target: str, *sources: str, reporter: Reporter | None = None) -> Combined:
    return combine([parse_reference(each) for each in sources], parse_reference(target), reporter or Reporter())


def test_each_architecture_is_in_the_index(tmp_path: Path) -> None:
    digests = {each: put(tmp_path / each, each) for each in ("arm64", "amd64")}
    write_archive(str(tmp_path / "arm64"), str(tmp_path / "arm64.tar"))
    sources = (f"oci-archive:{tmp_path}/arm64.tar", f"oci:{tmp_path}/amd64:amd64")
    done = of(f"oci:{tmp_path}/out:43", *sources)
    found = read(tmp_path / "out", "43")
    assert found["manifests"] == [
        {
            "mediaType": MANIFEST_TYPE,
            "digest": f"sha256:{digests[each]}",
            "size": (tmp_path / each / "blobs/sha256" / digests[each]).stat().st_size,
            "platform": {"architecture": each, "os": "linux"},
        }
        for each in ("amd64", "arm64")
    ]
    # the commits are others
    assert found["annotations"] == {_VERSION: "1"}
    assert [(each.platform, each.version, each.digest) for each in done.parts] == [
        (each, "1", f"sha256:{digests[each]}") for each in ("amd64", "arm64")
    ]
    # the order does not matter, nor where it goes
    assert of(f"oci-archive:{tmp_path}/out.tar", *reversed(sources)) == done
    # an index of the same images in the layout that has them
    for each in digests:
        put(tmp_path / "all", each)
    assert of(f"oci:{tmp_path}/all:both", f"oci:{tmp_path}/all:arm64", f"oci:{tmp_path}/all:amd64") == done
    assert read(tmp_path / "all", "both") == found
    assert len(json.loads((tmp_path / "all/index.json").read_text())["manifests"]) == 3


def test_variants(tmp_path: Path) -> None:
    put(tmp_path / "v6", "arm", variant="v6")
    put(tmp_path / "v7", "arm", variant="v7")
    done = of(f"oci:{tmp_path}/out", f"oci:{tmp_path}/v7", f"oci:{tmp_path}/v6")
    assert [each.platform for each in done.parts] == ["arm/v6", "arm/v7"]
    assert read(tmp_path / "out")["manifests"][1]["platform"] == {"architecture": "arm", "os": "linux", "variant": "v7"}


def test_versions_that_differ(tmp_path: Path) -> None:
    put(tmp_path / "a", "amd64", "43.1")
    put(tmp_path / "b", "arm64", "43.0")
    said = Warnings()
    of(f"oci:{tmp_path}/out", f"oci:{tmp_path}/a", f"oci:{tmp_path}/b", reporter=said)
    assert said.said == ["the images have different versions: amd64 43.1, arm64 43.0"]
    assert "annotations" not in read(tmp_path / "out")


def _twice(place: Path) -> None:
    put(place / "b", "amd64", "2")


def _unknown(place: Path) -> None:
    put(place / "b", "arm64", architecture="")


def _missing(place: Path) -> None:
    put(place / "other", "arm64")


def _damaged(place: Path) -> None:
    put(place / "b", "arm64")
    (place / "b/blobs/sha256" / digest_of(b"arm64")).write_bytes(b"arm65")


def _cut(place: Path) -> None:
    put(place / "b", "arm64")
    (place / "b/blobs/sha256" / digest_of(b"arm64")).unlink()


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (_twice, UsageError, "a and oci:.*/b are both images for amd64"),
        (_unknown, ImageError, "b: does not say which architecture"),
        (_missing, ImageError, "cannot open the OCI layout .*/b"),
        (_damaged, ImageError, f"/b: the blob sha256:{digest_of(b'arm64')} is damaged"),
        (_cut, ImageError, "cannot read the blob"),
    ],
)
def test_what_cannot_be_combined(tmp_path: Path, make: Any, kind: type[ComposeError], said: str) -> None:
    put(tmp_path / "a", "amd64")
    make(tmp_path)
    with pytest.raises(kind, match=said):
        of(f"oci:{tmp_path}/out", f"oci:{tmp_path}/a", f"oci:{tmp_path}/b")
    assert not (tmp_path / "out").exists()


def test_places_for_single_images(tmp_path: Path) -> None:
    put(tmp_path / "a", "amd64")
    with pytest.raises(UsageError, match="containers-storage cannot hold images of several architectures"):
        of("containers-storage:localhost/x", f"oci:{tmp_path}/a")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digests = [put(tmp_path / each, each) for each in ("amd64", "arm64")]
    words = [f"oci:{tmp_path}/{each}" for each in ("out:x", "amd64", "arm64")]
    assert main(["image-index", *words, f"--digestfile={tmp_path}/digest"]) == 0
    digest = (
        f"sha256:{digest_of(json.dumps(read(tmp_path / 'out', 'x'), separators=(',', ':'), sort_keys=True).encode())}"
    )
    assert capsys.readouterr().out.splitlines() == [
        f"amd64:    1  sha256:{digests[0]}",
        f"arm64:    1  sha256:{digests[1]}",
        f"Pushed digest: {digest}",
    ]
    assert (tmp_path / "digest").read_text() == digest
