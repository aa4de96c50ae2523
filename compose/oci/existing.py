"""Reading the manifest and the configuration of an existing image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from compose.errors import ImageError
from compose.events import Reporter
from compose.oci import skopeo
from compose.oci.difference import parse_manifest
from compose.oci.documents import parse
from compose.oci.image import digest_of
from compose.oci.images import find_manifest, open_images
from compose.oci.index import digest_in
from compose.oci.reference import ImageReference, Transport

_VERSIONS = ("org.opencontainers.image.version", "version")
_PLATFORM = ("os", "architecture", "variant")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingImage:
    """What is known of an image.

    digest, size: of the manifest. manifest: JSON, with its layers validated. The rest is from the configuration. platform: os,
    architecture and variant, if known. diffids: of the layers in order; empty when it is damaged. comments: on the layers in
    order, "" for one without; empty when there is no history of them. created: seconds since 1970, 0 when unknown. Digests have
    64 hex digits.
    """

    digest: str
    size: int
    manifest: Mapping[str, Any]
    platform: Mapping[str, str]
    labels: Mapping[str, str]
    diffids: tuple[str, ...]
    comments: tuple[str, ...]
    created: int

    @property
    def version(self) -> str | None:
        """The version in its labels."""
        return next((self.labels[key] for key in _VERSIONS if key in self.labels), None)


def read_existing(
    image: ImageReference, reporter: Reporter, access: skopeo.Access = skopeo.NO_ACCESS, *, replaced: bool = False
) -> ExistingImage | None:
    """Read an image's manifest and configuration, of a multi-architecture image those for this machine; None when there is no
    such image. replaced: another image is to take its place. Raises ImageError when it cannot be read, or is one of several
    that must not be replaced, UsageError when reading it takes skopeo, which is not installed."""
    where = str(image)
    if _is_missing(image):
        return None
    if not image.transport.is_local:
        raw = skopeo.find_manifest(image, access, replaced=replaced)
        return None if raw is None else parse_image(raw, lambda _digest: skopeo.config(image, raw, access), where)
    with open_images(image, reporter) as images:
        data = find_manifest(images, image.tag, replaced=replaced)
        return None if data is None else parse_image(data, images.read, where)


def _is_missing(image: ImageReference) -> bool:
    """Is there no file where an archive would be, or an empty directory or nothing of the kind in place of a layout?"""
    match image.transport:
        case Transport.OCI_ARCHIVE:
            return not os.path.lexists(image.name)
        case Transport.DOCKER_ARCHIVE:
            return not os.path.lexists(image.name.partition(":")[0])
        case Transport.OCI | Transport.DIRECTORY:
            try:
                return not os.listdir(image.name)
            except (FileNotFoundError, NotADirectoryError):
                return True
            except OSError as error:
                raise ImageError(f"cannot open {image}: {error.strerror}") from error
        case _:
            return False


def parse_image(data: bytes, read: Callable[[str], bytes], where: str) -> ExistingImage:
    """What is known of an image. data: the manifest. read: returns the blob with a digest. Raises ImageError."""
    manifest = parse_manifest(data, where)
    config = parse_config(manifest, read, where)
    inner = config.get("config") if isinstance(config, dict) else None
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    pairs = labels.items() if isinstance(labels, dict) else ()
    return ExistingImage(
        digest=digest_of(data),
        size=len(data),
        manifest=manifest,
        platform=_platform(config),
        diffids=_diffids(config),
        comments=_comments(config, len(manifest["layers"])),
        labels={key: value for key, value in pairs if isinstance(value, str)},
        created=(seconds(config.get("created")) or 0) if isinstance(config, dict) else 0,
    )


def _platform(config: Any) -> dict[str, str]:
    found = config if isinstance(config, dict) else {}
    return {key: found[key] for key in _PLATFORM if isinstance(found.get(key), str) and found[key]}


def _diffids(config: Any) -> tuple[str, ...]:
    rootfs = config.get("rootfs") if isinstance(config, dict) else None
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    return tuple(str(each).removeprefix("sha256:") for each in found) if isinstance(found, list) else ()


def _comments(config: Any, count: int) -> tuple[str, ...]:
    rows = config.get("history") if isinstance(config, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return ()
    comments = [row.get("comment") for row in rows if not row.get("empty_layer")]
    return tuple(each if isinstance(each, str) else "" for each in comments) if len(comments) == count else ()


def parse_config(manifest: Mapping[str, Any], read: Callable[[str], bytes], where: str) -> Any:
    """The configuration that a manifest refers to: any JSON value. read: returns the blob with a digest. Raises ImageError."""
    reference = manifest.get("config")
    if not isinstance(reference, dict):
        raise ImageError(f"{where}: damaged image manifest: it has no configuration")
    try:
        return parse(read(digest_in(reference, where)))
    except ValueError as error:
        raise ImageError(f"{where}: the configuration of the image is damaged: {error}") from error


def seconds(text: Any) -> int | None:
    """Convert an RFC 3339 time to seconds since 1970, at least 0; None if it is not one."""
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    # without a zone it is taken for UTC, as this machine's zone has nothing to do with it
    return max(0, int(when.replace(tzinfo=when.tzinfo or UTC).timestamp()))
