"""Flags and output shared by commands for container images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compose import fs
from compose.cli.sizes import counted
from compose.errors import UsageError
from compose.sizes import size

if TYPE_CHECKING:
    from compose.oci.difference import ManifestDifference
    from compose.oci.encapsulate import Image


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


def image_line(image: Image) -> str:
    return f"{counted(len(image.layers), 'layer')}, {size(sum(each.size for each in image.layers))}"


def difference_lines(found: ManifestDifference) -> Iterator[str]:
    """What a client with the old image fetches for the new one."""
    for name, (count, total) in (
        ("Total new layers", found.total),
        ("Removed layers", found.removed),
        ("Added layers", found.added),
    ):
        yield f"{name + ':':<18}{count:<4}  Size: {size(total)}"
