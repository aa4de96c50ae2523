"""Indexes of images for several architectures: the one for this machine is taken from them, as skopeo and podman do."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from compose.errors import ImageError
from compose.events import Reporter
from compose.oci import skopeo
from compose.oci.archive import write_archive
from compose.oci.image import INDEX_TYPE, MANIFEST_TYPE, descriptor, digest_of
from compose.oci.images import find_manifest, manifest_of, open_images
from compose.oci.index import pick
from compose.oci.layout import layout_for
from compose.oci.reference import parse_reference

AMD64, ARM64, OTHER = ("a" * 64, "b" * 64, "c" * 64)


def row(digest: str, architecture: str, os: str = "linux") -> dict[str, Any]:
    return {**descriptor(MANIFEST_TYPE, digest, 5), "platform": {"architecture": architecture, "os": os}}


def index(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": rows}).encode()


ATTESTATION = row(OTHER, "unknown", "unknown")


@pytest.mark.parametrize(("machine", "expected"), [("x86_64", AMD64), ("aarch64", ARM64)])
def test_the_image_pick(monkeypatch: pytest.MonkeyPatch, machine: str, expected: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert pick(index(ATTESTATION, row(AMD64, "amd64"), row(ARM64, "arm64")), "x") == expected
    assert pick(index(row(AMD64, "amd64"), row(ARM64, "arm64")), "x", architecture="arm64") == ARM64
    # the only one is meant, whatever it is for
    assert pick(index(row(ARM64, "arm64"), ATTESTATION), "x") == ARM64
    assert pick(index({"digest": f"sha256:{AMD64}"}), "x") == AMD64


def test_what_is_a_single_image() -> None:
    assert pick(b'{"layers": []}', "x") is None
    assert pick(b"[]", "x") is None


def test_none_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    with pytest.raises(ImageError) as caught:
        pick(index(row(ARM64, "arm64"), row(AMD64, "amd64"), ATTESTATION), "registry:x")
    assert caught.value.message == "registry:x: has no image for s390x"
    assert "images for amd64, arm64" in (caught.value.hint or "")


def test_an_index_is_not_replaced_by_an_image() -> None:
    """Clients of the other architectures would get nothing any more, or what does not run."""
    with pytest.raises(ImageError) as caught:
        pick(index(row(ARM64, "arm64"), row(AMD64, "amd64")), "registry:x", replaced=True)
    assert caught.value.message == "registry:x: has images for amd64, arm64, which one image would replace"
    assert "compose image-index" in (caught.value.hint or "")
    assert pick(index(row(ARM64, "arm64"), ATTESTATION), "x", replaced=True) == ARM64


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "not an image manifest"),
        (b'{"manifests": 5}', "manifests must be a list"),
        (b'{"manifests": [{"digest": "md5:0"}]}', "not a sha256 digest"),
        (b'{"manifests": [{"platform": 5}]}', "not a sha256 digest"),
        (b'{"manifests": []}', "has no image for "),
    ],
)
def test_damaged_indexes(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        pick(data, "x")


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_a_layout_with_an_image_for_several(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, transport: str) -> None:
    """As skopeo copy --all, buildah and docker buildx write them."""
    place = tmp_path / "out"
    manifests = {each: json.dumps({"layers": [], "of": each}).encode() for each in ("amd64", "arm64")}
    with layout_for(str(place), Reporter()) as layout:
        rows = [row(layout.write(data), each) for each, data in manifests.items()]
        layout.write(index(*rows))
        layout.insert(manifests["amd64"], "x", "amd64")
    top = json.loads((place / "index.json").read_text())
    top["manifests"][0] |= descriptor(INDEX_TYPE, digest_of(index(*rows)), len(index(*rows)))
    (place / "index.json").write_text(json.dumps(top))
    if transport == "oci-archive":
        write_archive(str(place), str(tmp_path / "out.tar"))
        place = tmp_path / "out.tar"
    for machine, architecture in (("x86_64", "amd64"), ("aarch64", "arm64")):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        with open_images(parse_reference(f"{transport}:{place}"), Reporter()) as images:
            assert manifest_of(images, "x") == find_manifest(images, "x") == manifests[architecture]
            assert {each: manifest_of(images, "x", architecture=each) for each in manifests} == manifests
            with pytest.raises(ImageError, match="which one image would replace"):
                find_manifest(images, "x", replaced=True)


def test_an_index_in_a_registry_whose_image_is_gone_is_not_a_missing_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """compose image --initialize-mode=if-not-exists would replace it."""
    top = index(row(AMD64, "amd64"))

    def run(arguments: list[str], failure: str, *_inherited: int) -> bytes:
        if arguments[-1] == "docker://quay.io/os/x:1":
            return top
        raise ImageError(f"{failure}: skopeo exited with 1", details=["Error: reading manifest: manifest unknown"])

    monkeypatch.setattr(skopeo, "_run", run)
    with pytest.raises(ImageError, match=f"cannot read the manifest of registry:quay.io/os/x@sha256:{AMD64}"):
        skopeo.find_manifest(parse_reference("registry:quay.io/os/x:1"))
    assert skopeo.find_manifest(parse_reference("registry:quay.io/os/x:2")) is None
