"""Layers of the previous image that are the same again: their blobs are taken over, as compressing is most of the work.

A layer is known to be the same when the new tar stream has the digest of the old one. What the previous image says of itself is
not believed: the blob is inflated, and must be that stream.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from compose.errors import ImageError
from compose.events import Reporter
from compose.oci.chunking import components_of
from compose.oci.existing import ExistingImage
from compose.oci.gzip import Packed
from compose.oci.image import LAYER_TYPE
from compose.oci.index import digest_in
from compose.oci.reference import ImageReference
from compose.oci.source import open_image

_PIECE = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class OldLayers:
    """The layers of an existing image in a layout or an archive. layers: as the image describes them, by components, sorted."""

    image: ImageReference
    layers: dict[tuple[str, ...], Packed]

    def find(self, components: tuple[str, ...]) -> Packed | None:
        return self.layers.get(tuple(sorted(components)))

    def copy(self, layer: Packed, write: Callable[[bytes], None], reporter: Reporter) -> bool:
        """Copy the blob of a layer; False when it is missing or not what it should be. Safe in threads."""
        try:
            with open_image(self.image, reporter) as (images, _), images.open_blob(layer.digest) as blob:
                return _copy(blob, write) == layer
        except (ImageError, OSError, EOFError, zlib.error):
            return False


def old_layers(image: ImageReference, found: ExistingImage) -> OldLayers | None:
    """The layers of an image that can be taken over. None when they are not on this machine."""
    if not image.transport.is_local:
        return None
    layers = {}
    rows = found.manifest["layers"]
    for row, components, diffid in zip(rows, components_of(rows, found.comments), found.diffids, strict=False):
        if components is not None and row.get("mediaType") == LAYER_TYPE:
            digest = digest_in(row, str(image))
            layers[tuple(sorted(components))] = Packed(digest=digest, size=row["size"], diffid=diffid)
    return OldLayers(image=image, layers=layers)


def _copy(blob: IO[bytes], write: Callable[[bytes], None]) -> Packed | None:
    """Copy a gzip file. None when it is not a single, complete one. Raises zlib.error."""
    plain, packed = hashlib.sha256(), hashlib.sha256()
    size = 0
    inflater = zlib.decompressobj(_GZIP)
    while piece := blob.read(_PIECE):
        packed.update(piece)
        size += len(piece)
        write(piece)
        while piece and not inflater.eof:
            plain.update(inflater.decompress(piece, _PIECE))
            piece = inflater.unconsumed_tail
    if not inflater.eof or inflater.unused_data:
        return None
    return Packed(digest=packed.hexdigest(), size=size, diffid=plain.hexdigest())
