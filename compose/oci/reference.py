"""Where an image is: TRANSPORT:REST, as containers-transports(5) has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from compose.errors import UsageError

# org.opencontainers.image.ref.name: image-spec, annotations.md
_TAG = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*")
_FORMS = "oci:DIR[:TAG], oci-archive:FILE[:TAG], registry:HOST/NAME[:TAG] or containers-storage:NAME[:TAG]"


class Transport(StrEnum):
    """OCI and OCI_ARCHIVE are written here, the others by skopeo."""

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
    """name: path of a layout or an archive, else all that stands behind the transport. tag: of a layout or an archive, None
    when none is given."""

    transport: Transport
    name: str
    tag: str | None = None

    def __str__(self) -> str:
        return f"{self.transport}:{self.name}" + (f":{self.tag}" if self.tag is not None else "")

    @property
    def skopeo(self) -> str:
        """As skopeo has it."""
        return f"docker://{self.name}" if self.transport is Transport.REGISTRY else str(self)


def parse_reference(text: str) -> ImageReference:
    """Raises UsageError saying which forms there are."""
    if text.startswith("ostree-"):
        raise UsageError(
            f"{text}: is what a client calls an image, with how it verifies it",
            hint=f"leave that out; give {_FORMS}",
        )
    kind, colon, name = text.partition(":")
    if kind == "docker" and name.startswith("//"):
        kind, name = Transport.REGISTRY, name[2:]
    if not colon or kind not in list(Transport):
        raise UsageError(f"{text}: is no image reference", hint=f"give {_FORMS}")
    transport, tag = Transport(kind), None
    if transport.is_local:
        name, colon, rest = name.partition(":")
        tag = rest if colon else None
        if tag is not None and not _TAG.fullmatch(tag):
            raise UsageError(
                f"{text}: {tag!r} is no tag", hint="a tag has letters and digits, with one of -._:@+/ between them"
            )
    if not name:
        raise UsageError(f"{text}: says not where", hint=f"give {_FORMS}")
    return ImageReference(transport=transport, name=name, tag=tag)


def parse_source(text: str) -> ImageReference:
    """The same of an image that is there: without a transport it is one of podman's storage, as for rpm-ostree. Raises
    UsageError."""
    kind, colon, rest = text.partition(":")
    named = bool(colon) and (kind in list(Transport) or (kind == "docker" and rest.startswith("//")))
    if named or not text or text.startswith("ostree-"):
        return parse_reference(text)
    return ImageReference(transport=Transport.CONTAINERS_STORAGE, name=text)
