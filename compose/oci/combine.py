"""One name for the images of a system for several architectures: an image index, from which each client takes its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from compose.errors import ImageError, UsageError
from compose.events import Reporter
from compose.oci import skopeo
from compose.oci.documents import canonical
from compose.oci.existing import ExistingImage, parse_image, read_existing
from compose.oci.image import INDEX_TYPE, MANIFEST_TYPE, descriptor
from compose.oci.images import Images, manifest_of
from compose.oci.index import digest_in
from compose.oci.layout import Layout
from compose.oci.reference import ImageReference, Transport
from compose.oci.source import open_image
from compose.oci.target import check_target, write_to

_SINGLE = (Transport.CONTAINERS_STORAGE, Transport.DOCKER_ARCHIVE, Transport.DOCKER_DAEMON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the images. platform: "arm64", or "arm/v7" with a variant. version: None without such a label. digest: sha256:…
    of the manifest."""

    platform: str
    version: str | None
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """digest: of the index, sha256:…. parts: by platform."""

    digest: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """An image to combine. blobs: where its blobs are; None when the target has them."""

    reference: ImageReference
    image: ExistingImage
    blobs: Images | None

    @property
    def platform(self) -> str:
        return "/".join(self.image.platform[key] for key in ("architecture", "variant") if key in self.image.platform)


def combine(
    images: Sequence[ImageReference],
    target: ImageReference,
    reporter: Reporter,
    access: skopeo.Access = skopeo.NO_ACCESS,
) -> Combined:
    """Write an index of images, and with it the images that the target lacks. The same images in any order make the same index.

    Raises UsageError when two images are for one architecture or the target cannot hold an index, ImageError, StorageError;
    then the target is unchanged, except for unreferenced blobs in a layout.
    """
    if target.transport in _SINGLE:
        raise UsageError(
            f"{target}: {target.transport} cannot hold images of several architectures under one name",
            hint="give oci:DIR:TAG, oci-archive:FILE or registry:HOST/NAME:TAG",
        )
    check_target(target, reporter)
    in_place = all(_is_beside(each, target) for each in images)
    with ExitStack() as stack:
        sources = _sorted([_open(each, in_place, stack, reporter, access) for each in images])
        _compare_versions(sources, reporter)
        index = _index([source.image for source in sources])

        def write(layout: Layout, tag: str | None) -> str:
            for source in sources:
                _copy(source, layout, reporter)
            return layout.insert(index, tag, None)

        digest, copied = write_to(target, write, reporter, access, skopeo.INDEX_ONLY if in_place else skopeo.ALL)
    return Combined(
        digest=copied or f"sha256:{digest}",
        parts=tuple(
            Part(platform=each.platform, version=each.image.version, digest=f"sha256:{each.image.digest}")
            for each in sources
        ),
    )


def _is_beside(image: ImageReference, target: ImageReference) -> bool:
    """Is an image in the target's repository of a registry, where an index can refer to it?"""
    registries = {image.transport, target.transport} == {Transport.REGISTRY}
    return registries and image.repository == target.repository


def _open(
    reference: ImageReference, in_place: bool, stack: ExitStack, reporter: Reporter, access: skopeo.Access
) -> _Source:
    if in_place:
        image = read_existing(reference, reporter, access)
        if image is None:
            raise ImageError(f"{reference}: there is no such image")
        return _Source(reference, image, None)
    images, tag = stack.enter_context(open_image(reference, reporter, access))
    return _Source(reference, parse_image(manifest_of(images, tag), images.read, str(reference)), images)


def _sorted(sources: Sequence[_Source]) -> list[_Source]:
    """The sources by platform. Raises UsageError when two have the same, ImageError when one has none."""
    found: dict[str, _Source] = {}
    for source in sources:
        if "architecture" not in source.image.platform:
            raise ImageError(f"{source.reference}: does not say which architecture it is for")
        other = found.setdefault(source.platform, source)
        if other is not source:
            raise UsageError(f"{other.reference} and {source.reference} are both images for {source.platform}")
    return [found[platform] for platform in sorted(found)]


def _compare_versions(sources: Sequence[_Source], reporter: Reporter) -> None:
    if len({source.image.version for source in sources}) > 1:
        versions = ", ".join(f"{source.platform} {source.image.version or 'without one'}" for source in sources)
        reporter.warn(f"the images have different versions: {versions}")


def _index(images: Sequence[ExistingImage]) -> bytes:
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            {
                **descriptor(image.manifest.get("mediaType", MANIFEST_TYPE), image.digest, image.size),
                "platform": {"os": "linux", **image.platform},
            }
            for image in images
        ],
    }
    # what is true of all of them, such as the version
    annotations = [_annotations(image).items() for image in images]
    if common := {pair for pair in annotations[0] if all(pair in each for each in annotations)}:
        document["annotations"] = dict(common)
    return canonical(document)


def _annotations(image: ExistingImage) -> dict[str, str]:
    found = image.manifest.get("annotations")
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _copy(source: _Source, layout: Layout, reporter: Reporter) -> None:
    """Copy the blobs of an image, unless the target has them, the manifest last."""
    blobs, manifest, where = source.blobs, source.image.manifest, str(source.reference)
    if blobs is None:
        return
    with reporter.task(f"Copying {where}", total=len(manifest["layers"]), unit="layers") as task:
        for row in manifest["layers"]:
            digest = digest_in(row, where)
            with blobs.open_blob(digest) as blob:
                layout.take(blob, digest, row["size"], where)
            task.advance()
        for digest in (digest_in(manifest["config"], where), source.image.digest):
            layout.write(blobs.read(digest))
