"""What is said of container images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compose.cli.sizes import size

if TYPE_CHECKING:
    from compose.oci.difference import ManifestDifference
    from compose.oci.encapsulate import Image


def image_line(image: Image) -> str:
    return f"{len(image.layers)} layers, {size(sum(each.size for each in image.layers))}"


def difference_lines(found: ManifestDifference) -> Iterator[str]:
    """What a client that has the old image fetches for the new one."""
    for name, (count, total) in (
        ("Total new layers", found.total),
        ("Removed layers", found.removed),
        ("Added layers", found.added),
    ):
        yield f"{name + ':':<18}{count:<4}  Size: {size(total)}"
