"""Compares two images: what a client that has one must fetch for the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compose.errors import ImageError
from compose.events import Reporter
from compose.oci import skopeo
from compose.oci.documents import parse
from compose.oci.image import MANIFEST_TYPE
from compose.oci.images import manifest_of, open_images
from compose.oci.reference import ImageReference

_DOCKER_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestDifference:
    """Layers as (number, compressed bytes): all of the new image, those that only the new one has, those that only the old one
    has."""

    total: tuple[int, int]
    added: tuple[int, int]
    removed: tuple[int, int]

    @property
    def kept(self) -> tuple[int, int]:
        return self.total[0] - self.added[0], self.total[1] - self.added[1]


def compare_manifests(before: Mapping[str, Any], after: Mapping[str, Any]) -> ManifestDifference:
    """Compare the layers of two manifests, as returned by parse_manifest()."""
    old, new = _layers(before), _layers(after)
    return ManifestDifference(
        total=_sum(new),
        added=_sum({digest: size for digest, size in new.items() if digest not in old}),
        removed=_sum({digest: size for digest, size in old.items() if digest not in new}),
    )


def _layers(manifest: Mapping[str, Any]) -> dict[str, int]:
    return {layer["digest"]: layer["size"] for layer in manifest["layers"]}


def _sum(layers: Mapping[str, int]) -> tuple[int, int]:
    return len(layers), sum(layers.values())


def read_manifest(
    image: ImageReference,
    reporter: Reporter,
    access: skopeo.Access = skopeo.NO_ACCESS,
    architecture: str | None = None,
) -> bytes:
    """The manifest of an image, wherever it is; of several, that for an architecture, by default this machine's. Raises
    ImageError when there is no such image, UsageError when reading it takes skopeo, which is not installed."""
    if not image.transport.is_local:
        return skopeo.raw_manifest(image, access, architecture=architecture)
    with open_images(image, reporter) as images:
        return manifest_of(images, image.tag, architecture=architecture)


def parse_manifest(data: bytes, where: str) -> dict[str, Any]:
    """Parse a manifest and check its layers. Raises ImageError when it is damaged, or lists several images."""
    try:
        document = parse(data)
    except ValueError as error:
        raise ImageError(f"{where}: not an image manifest: {error}") from error
    found: dict[str, Any] = document if isinstance(document, dict) else {}
    layers = found.get("layers")
    if not isinstance(layers, list):
        several = "manifests" in found
        raise ImageError(
            f"{where}: not an image manifest: " + ("it lists several images" if several else "it has no layers"),
            hint="name one of them by its digest: NAME@sha256:…" if several else None,
        )
    if found.get("mediaType", MANIFEST_TYPE) not in (MANIFEST_TYPE, _DOCKER_TYPE):
        raise ImageError(f"{where}: is a {found['mediaType']}, not an image")
    for layer in layers:
        if not (
            isinstance(layer, dict) and isinstance(layer.get("digest"), str) and isinstance(layer.get("size"), int)
        ):
            raise ImageError(f"{where}: damaged image manifest: a layer has no digest or no size")
    return found
