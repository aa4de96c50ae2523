"""Image indexes (image-spec, image-index.md): the images of a layout by tag, and the images of one system by architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compose.errors import ImageError
from compose.oci.documents import parse
from compose.oci.image import machine_architecture

TAG = "org.opencontainers.image.ref.name"
"""Annotation of an entry in the index of a layout: its tag."""
_OS = "linux"


def parse_index(data: bytes, what: str) -> dict[str, Any]:
    """Parse an index and check its list of manifests. what: it is, for messages. Raises ImageError."""
    found = parse_object(data, what)
    rows = found.setdefault("manifests", [])
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        raise ImageError(f"{what} is damaged: manifests must be a list of objects")
    if not all(isinstance(tag_of(each), str | None) for each in rows):
        raise ImageError(f"{what} is damaged: {TAG} must be a string")
    return found


def tag_of(row: Mapping[str, Any]) -> str | None:
    """The tag of an entry in an index."""
    annotations = row.get("annotations")
    return annotations.get(TAG) if isinstance(annotations, dict) else None


def find(index: Mapping[str, Any], tag: str | None, path: str) -> dict[str, Any] | None:
    """The entry of an image in an index, None when there is none. Raises ImageError when several match."""
    rows: list[dict[str, Any]] = index["manifests"]
    found = [row for row in rows if tag_of(row) == tag]
    if tag is None and len(rows) == 1:
        # the only image needs no tag, whatever its own is
        found = rows
    if len(found) > 1 or (tag is None and rows and not found):
        which = f"has {len(found)} images {tag}" if tag is not None else f"has {len(rows)} images: name one by its tag"
        raise ImageError(f"{path}: {which}", hint=f"existing tags: {_tags(rows)}")
    return found[0] if found else None


def choose(index: Mapping[str, Any], tag: str | None, path: str) -> dict[str, Any]:
    """As find(), but raises ImageError also when there is no such image."""
    row = find(index, tag, path)
    if row is None:
        missing = f"no image {tag}" if tag is not None else "no image"
        raise ImageError(f"{path}: has {missing}", hint=f"existing tags: {_tags(index['manifests'])}")
    return row


def _tags(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted(filter(None, map(tag_of, rows)))) or "none"


def pick(data: bytes, where: str, *, architecture: str | None = None, replaced: bool = False) -> str | None:
    """The digest of the image to take from an index of several architectures; None when the data is the manifest of an image.

    It is the only one, whatever it is for, or that for the architecture, by default this machine's. where: for messages.
    replaced: an image is to take the place of the index. Raises ImageError when there is none, the index is damaged, or others
    would be lost.
    """
    try:
        found = parse(data)
    except ValueError as error:
        raise ImageError(f"{where}: not an image manifest: {error}") from error
    if not isinstance(found, dict) or "manifests" not in found:
        return None
    # builders list attestations too, for an operating system "unknown"
    rows = [row for row in parse_index(data, f"{where}: the image index")["manifests"] if _platform(row)[0] == _OS]
    known = ", ".join(sorted({_platform(row)[1] for row in rows})) or "none"
    if replaced and len(rows) > 1:
        raise ImageError(
            f"{where}: has images for {known}, which one image would replace",
            hint="give each architecture a name of its own, and combine them with compose image-index",
        )
    architecture = architecture or machine_architecture()
    wanted = rows if len(rows) == 1 else [row for row in rows if _platform(row)[1] == architecture]
    if not wanted:
        raise ImageError(
            f"{where}: has no image for {architecture}",
            hint=f"it has images for {known}; in a registry, one can be named by its digest: NAME@sha256:…",
        )
    return digest_in(wanted[0], where)


def _platform(row: Mapping[str, Any]) -> tuple[str, str]:
    """Operating system and architecture of an entry. One that does not name its system is for ours."""
    platform = row.get("platform")
    found = platform if isinstance(platform, dict) else {}
    return str(found.get("os", _OS)), str(found.get("architecture", "an unnamed architecture"))


def digest_in(row: Mapping[str, Any], path: str) -> str:
    """The sha256 digest in a descriptor, 64 hex digits. Raises ImageError when it has none."""
    algorithm, _, digest = str(row.get("digest")).partition(":")
    if algorithm != "sha256" or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ImageError(f"{path}: refers to {row.get('digest')}, which is not a sha256 digest")
    return digest


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object. what: it is, for messages. Raises ImageError."""
    try:
        found = parse(data)
    except ValueError as error:
        raise ImageError(f"{what} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ImageError(f"{what} is damaged: it is not an object")
    return found
