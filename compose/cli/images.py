"""Flags and output shared by commands for container images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from compose import fs
from compose.cli.sizes import counted
from compose.errors import UsageError
from compose.sizes import size

if TYPE_CHECKING:
    from compose.oci.difference import ManifestDifference
    from compose.oci.encapsulate import Image

Label = Annotated[list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Label of the image.")]
ImageConfig = Annotated[
    str | None,
    typer.Option("--image-config", metavar="FILE", help='The "config" object of an image configuration, JSON.'),
]
MaxLayers = Annotated[
    int | None,
    typer.Option(
        "--max-layers",
        metavar="N",
        min=1,
        help="Maximum number of layers besides the first, which holds the commit; 64 by default.",
    ),
]
FormatVersion = Annotated[int, typer.Option("--format-version", help="2 repeats parent directories in each layer.")]
DigestFile = Annotated[
    str | None, typer.Option("--digestfile", metavar="FILE", help="Write the digest of the image to this file.")
]


def has_parents(format_version: int) -> bool:
    """Whether each layer repeats the parent directories of its files. Raises UsageError for an unsupported format."""
    if format_version not in (1, 2):
        raise UsageError(
            f"--format-version={format_version} is not supported",
            hint="use 1, or 2 to repeat parent directories in each layer",
        )
    return format_version == 2


def check_digest_file(path: str | None) -> None:
    """Raise StorageError if the file for --digestfile cannot be written."""
    if path is not None:
        fs.check_place(path)


def write_digest(path: str | None, digest: str) -> None:
    """Write the file for --digestfile, as `skopeo copy` and `podman push` do: no newline. Raises StorageError."""
    if path is not None:
        fs.atomic_write(path, digest.encode())


def image_lines(image: Image, difference: ManifestDifference | None) -> Iterator[str]:
    """How large an image is, and what a client with the old one fetches for it."""
    yield f"{counted(len(image.layers), 'layer')}, {size(sum(each.size for each in image.layers))}"
    if difference is None:
        return
    for name, (count, total) in (
        ("Total new layers", difference.total),
        ("Removed layers", difference.removed),
        ("Added layers", difference.added),
    ):
        yield f"{name + ':':<18}{count:<4}  Size: {size(total)}"
