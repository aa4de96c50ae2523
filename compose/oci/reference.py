"""Image references, TRANSPORT:REST as in containers-transports(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from compose.errors import UsageError

# org.opencontainers.image.ref.name: image-spec, annotations.md
_TAG = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*")
_FORMS = "oci:DIR[:TAG], oci-archive:FILE[:TAG], registry:HOST/NAME[:TAG] or containers-storage:NAME[:TAG]"


class Transport(StrEnum):
    """The kinds of places for images. OCI and OCI_ARCHIVE are read and written here, the others through skopeo."""

    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    REGISTRY = "registry"
    CONTAINERS_STORAGE = "containers-storage"
    DIRECTORY = "dir"
    DOCKER_ARCHIVE = "docker-archive"
    DOCKER_DAEMON = "docker-daemon"

    @property
    def is_local(self) -> bool:
        return self in (Transport.OCI, Transport.OCI_ARCHIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """Where an image is.

    name: path of a layout or archive; for other transports everything after the colon. tag: only for layouts and archives;
    None when none is given.
    """

    transport: Transport
    name: str
    tag: str | None = None

    def __str__(self) -> str:
        return f"{self.transport}:{self.name}" + (f":{self.tag}" if self.tag is not None else "")

    @property
    def skopeo(self) -> str:
        """The reference as skopeo spells it."""
        return f"docker://{self.name}" if self.transport is Transport.REGISTRY else str(self)

    @property
    def repository(self) -> str:
        """HOST/NAME of an image in a registry, without tag and digest."""
        parent, slash, last = self.name.partition("@")[0].rpartition("/")
        return f"{parent}{slash}{last.partition(':')[0]}"

    def at(self, digest: str) -> ImageReference:
        """The image of the same repository in a registry that has this digest (64 hex digits)."""
        return replace(self, name=f"{self.repository}@sha256:{digest}")


def parse_reference(text: str) -> ImageReference:
    """Parse a reference. Raises UsageError with a hint that lists the accepted forms."""
    if text.startswith("ostree-"):
        raise UsageError(
            f"{text}: the ostree-… prefix tells a client how to verify an image, and has no meaning here",
            hint=f"leave it out; give {_FORMS}",
        )
    kind, colon, name = text.partition(":")
    if kind == "docker" and name.startswith("//"):
        kind, name = Transport.REGISTRY, name[2:]
    if not colon or kind not in list(Transport):
        raise UsageError(f"{text}: not an image reference", hint=f"give {_FORMS}")
    transport, tag = Transport(kind), None
    if transport.is_local:
        name, colon, rest = name.partition(":")
        tag = rest if colon else None
        if tag is not None and not _TAG.fullmatch(tag):
            raise UsageError(
                f"{text}: {tag!r} is not a valid tag",
                hint="a tag consists of letters and digits, with one of -._:@+/ between them",
            )
    if not name:
        raise UsageError(f"{text}: no location after the transport", hint=f"give {_FORMS}")
    return ImageReference(transport=transport, name=name, tag=tag)


def parse_source(text: str) -> ImageReference:
    """Parse the reference of an image to read: without a transport it is in containers-storage, as for rpm-ostree. Raises
    UsageError."""
    if is_reference(text) or not text or text.startswith("ostree-"):
        return parse_reference(text)
    return ImageReference(transport=Transport.CONTAINERS_STORAGE, name=text)


def is_reference(text: str) -> bool:
    """Does a text begin with a transport?"""
    kind, colon, rest = text.partition(":")
    return bool(colon) and (kind in list(Transport) or (kind == "docker" and rest.startswith("//")))
