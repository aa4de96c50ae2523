"""Where images are written: a layout, an archive, or wherever skopeo can copy a layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from compose import fs
from compose.events import Reporter
from compose.oci import skopeo
from compose.oci.archive import write_archive
from compose.oci.layout import TEMPORARY, Layout, layout_for, try_layout
from compose.oci.reference import ImageReference, Transport
from compose.scratch import directory_beside, temporary_directory

_Written = TypeVar("_Written")


def check_target(target: ImageReference, reporter: Reporter) -> None:
    """Check that an image can be written to the target, as far as that is known beforehand, and raise what writing would."""
    match target.transport:
        case Transport.OCI:
            try_layout(target.name, reporter)
        case Transport.OCI_ARCHIVE:
            fs.check_place(target.name)
        case _:
            skopeo.require()


def write_to(
    target: ImageReference,
    write: Callable[[Layout, str | None], _Written],
    reporter: Reporter,
    access: skopeo.Access = skopeo.NO_ACCESS,
    flags: tuple[str, ...] = (),
) -> tuple[_Written, str | None]:
    """Write an image to a target, as check_target() allows.

    write: puts the image into a layout, with this tag. flags: for skopeo.copy(). Returns what `write` does, and the digest at a
    target that skopeo copied to, sha256:…, as that may have converted the image.

    Raises ImageError, StorageError, UsageError and what `write` raises; then the target is unchanged, except for unreferenced
    blobs in a layout.
    """
    if target.transport is Transport.OCI:
        with layout_for(target.name, reporter) as layout:
            return write(layout, target.tag), None
    if target.transport is Transport.OCI_ARCHIVE:
        with directory_beside(target.name, TEMPORARY) as directory:
            with Layout.create(f"{directory}/layout", reporter) as layout:
                layout.path = target.name
                written = write(layout, target.tag)
            with reporter.task(f"Writing {target}"):
                write_archive(f"{directory}/layout", target.name)
        return written, None
    with temporary_directory("compose-oci-", skopeo.temporary_parent()) as directory:
        with Layout.create(f"{directory}/layout", reporter) as layout:
            written = write(layout, None)
        with reporter.task(f"Copying to {target}"):
            return written, skopeo.copy(f"{directory}/layout", target, directory, access, flags)
