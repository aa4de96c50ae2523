"""Images in a layout or an archive, by tag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, Protocol

from compose.events import Reporter
from compose.oci.archive import open_archive
from compose.oci.index import choose, digest_in, find, pick
from compose.oci.layout import Layout
from compose.oci.reference import ImageReference, Transport


class Images(Protocol):
    """A layout or an archive. All of it raises ImageError when something is missing or damaged."""

    path: str

    def index(self) -> dict[str, Any]:
        """The parsed index.json."""

    def read(self, digest: str) -> bytes:
        """A JSON blob, verified."""

    def open_blob(self, digest: str) -> AbstractContextManager[IO[bytes]]:
        """A blob of any size, not verified."""


@contextmanager
def open_images(image: ImageReference, reporter: Reporter) -> Iterator[Images]:
    """Open the layout or archive that an image is in. Raises ImageError."""
    if image.transport is Transport.OCI:
        with Layout.open(image.name, reporter) as layout:
            yield layout
    else:
        with open_archive(image.name) as archive:
            yield archive


def manifest_of(images: Images, tag: str | None, *, architecture: str | None = None) -> bytes:
    """The manifest of an image; of a multi-architecture image, that for an architecture, by default this machine's. Raises
    ImageError when it does not exist or the tag is ambiguous."""
    data = images.read(digest_in(choose(images.index(), tag, images.path), images.path))
    digest = pick(data, images.path, architecture=architecture)
    return data if digest is None else images.read(digest)


def find_manifest(images: Images, tag: str | None, *, replaced: bool = False) -> bytes | None:
    """The manifest of an image; of a multi-architecture image, that for this machine. None when the image does not exist.
    replaced: as for pick(). Raises ImageError when the tag is ambiguous."""
    row = find(images.index(), tag, images.path)
    if row is None:
        return None
    data = images.read(digest_in(row, images.path))
    digest = pick(data, images.path, replaced=replaced)
    return data if digest is None else images.read(digest)
