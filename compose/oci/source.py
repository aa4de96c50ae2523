"""Reading an image to make another one from it: its files as a tree, and its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from compose.blobs import BlobStore
from compose.errors import ImageError
from compose.events import Reporter
from compose.oci import skopeo
from compose.oci.difference import parse_manifest
from compose.oci.existing import parse_config, seconds
from compose.oci.image import COMMIT_LABEL, inherited_config, is_architecture
from compose.oci.images import Images, manifest_of, open_images
from compose.oci.index import digest_in
from compose.oci.layerstream import LayerStream
from compose.oci.layout import Layout
from compose.oci.overlay import Overlay
from compose.oci.reference import ImageReference
from compose.oci.untar import TarReader
from compose.ostree.objects import COMPOSEFS_DIGEST, MAX_METADATA_SIZE, decode_commit
from compose.ostree.refs import is_checksum
from compose.rootfs import Root
from compose.scratch import temporary_directory

_OS = "linux"
_OBJECTS = "sysroot/ostree/repo/objects"
_ENCRYPTED = "+encrypted"
_SHOWN = 12
"""Digits of a digest in messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """An image that was read.

    root: its files. config: the part of its "config" object that an image made from it inherits. created: seconds since 1970,
    None when not recorded. architecture: OCI's name. measured: does the commit in it have a composefs digest?
    """

    root: Root
    config: Mapping[str, Any]
    created: int | None
    architecture: str
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _SourceLayer:
    """digest, size: of the compressed blob. diffid: digest of its uncompressed content. Digests have 64 hex digits."""

    digest: str
    size: int
    diffid: str


def read_source(
    image: ImageReference,
    store: BlobStore,
    reporter: Reporter,
    *,
    writer: str,
    without: tuple[str, ...] = (),
    access: skopeo.Access = skopeo.NO_ACCESS,
) -> SourceImage:
    """Apply the layers of an image, storing file contents in `store`. writer: recorded in the tree's entries. without:
    directories left empty in the tree, whatever the image has in them.

    Raises ImageError when the image is missing, damaged or not that of a system, StorageError, and UsageError when reading it
    takes skopeo, which is not installed.
    """
    where = str(image)
    with open_image(image, reporter, access) as (images, tag):
        manifest = parse_manifest(manifest_of(images, tag), where)
        config = _config(manifest, images.read, where)
        layers = _layers(manifest, config, where)
        inner = config.get("config")
        inner = inner if isinstance(inner, dict) else {}
        inherited = inherited_config(inner, where)
        overlay = Overlay(store, writer)
        with reporter.task("Reading layers", total=sum(layer.size for layer in layers), unit="bytes") as task:
            for number, layer in enumerate(layers, 1):
                name = f"{where}: layer {number} of {len(layers)} (sha256:{layer.digest[:_SHOWN]})"
                with images.open_blob(layer.digest) as blob:
                    stream = LayerStream(
                        blob,
                        digest=layer.digest,
                        size=layer.size,
                        diffid=layer.diffid,
                        where=name,
                        advance=task.advance,
                    )
                    overlay.apply(TarReader(stream, name), name)
                    stream.finish()
        # inherited_config() has checked that they are strings
        labels = inner.get("Labels") or {}
        measured = _is_measured(overlay, labels.get(COMMIT_LABEL, ""), store, where)
        root = overlay.finish(without=without)
    if not root.tree.is_dir("usr"):
        raise ImageError(f"{where}: has no /usr, so it is not the image of a system")
    return SourceImage(
        root=root,
        config=inherited,
        created=seconds(config.get("created")),
        architecture=config["architecture"],
        measured=measured,
    )


def _is_measured(overlay: Overlay, checksum: str, store: BlobStore, where: str) -> bool:
    """Does the commit in the image have a composefs digest? checksum: the image's label, not validated."""
    if not is_checksum(checksum):
        return False
    entry = overlay.get(f"{_OBJECTS}/{checksum[:2]}/{checksum[2:]}.commit")
    if entry is None or entry.blob is None or entry.blob.size > MAX_METADATA_SIZE:
        return False
    try:
        commit = decode_commit(store.read(entry.blob), (COMPOSEFS_DIGEST,))
    except ValueError as error:
        raise ImageError(f"{where}: the commit in the image is damaged: {error}") from error
    return commit.get(COMPOSEFS_DIGEST) is not None


@contextmanager
def open_image(
    image: ImageReference, reporter: Reporter, access: skopeo.Access = skopeo.NO_ACCESS
) -> Iterator[tuple[Images, str | None]]:
    """The layout or archive with the image's blobs, and the image's tag in it."""
    if image.transport.is_local:
        with open_images(image, reporter) as images:
            yield images, image.tag
        return
    skopeo.require()
    with temporary_directory("compose-oci-", skopeo.temporary_parent()) as directory:
        with reporter.task(f"Fetching {image}"):
            skopeo.fetch(image, directory, access)
        with Layout.open(directory, reporter) as layout:
            yield layout, None


def _config(manifest: Mapping[str, Any], read: Callable[[str], bytes], where: str) -> dict[str, Any]:
    found = parse_config(manifest, read, where)
    if not isinstance(found, dict):
        raise ImageError(f"{where}: the configuration of the image is damaged: it is not an object")
    if found.get("os", _OS) != _OS:
        raise ImageError(f"{where}: is an image for {found['os']}, not for {_OS}")
    if not is_architecture(str(found.get("architecture"))):
        raise ImageError(f"{where}: is an image for the unknown architecture {found.get('architecture')}")
    return found


def _layers(manifest: Mapping[str, Any], config: Mapping[str, Any], where: str) -> tuple[_SourceLayer, ...]:
    """The layers of an image, the lowest first."""
    rootfs = config.get("rootfs")
    diffids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    rows = manifest["layers"]
    if not isinstance(diffids, list) or len(diffids) != len(rows):
        raise ImageError(
            f"{where}: damaged image: its configuration does not match the {len(rows)} layers in its manifest"
        )
    for row in rows:
        if str(row.get("mediaType")).endswith(_ENCRYPTED):
            raise ImageError(f"{where}: its layers are encrypted", hint="decrypt it with skopeo copy --decryption-key")
    return tuple(
        _SourceLayer(digest=digest_in(row, where), size=row["size"], diffid=digest_in({"digest": diffid}, where))
        for row, diffid in zip(rows, diffids, strict=True)
    )
