"""`compose image-index`: combine images of several architectures under one name."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.cli import flags, images
from compose.cli.flags import ProgressStyle


def command(
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT",
            help="oci:DIR[:TAG], oci-archive:FILE[:TAG] or registry:HOST/NAME[:TAG].",
            show_default=False,
        ),
    ],
    image: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Images to combine, one per architecture.", show_default=False),
    ],
    digestfile: images.DigestFile = None,
    authfile: flags.AuthFile = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Give images of several architectures one name.

    Clients that follow the name get the image for their machine. Images in OUTPUT's repository of a registry are not copied.
    """
    from compose.oci.combine import combine
    from compose.oci.reference import parse_reference
    from compose.oci.skopeo import Access

    target, sources = parse_reference(output), [parse_reference(each) for each in image]
    with flags.reporter_of(progress, progress_fd) as reporter:
        images.check_digest_file(digestfile)
        done = combine(sources, target, reporter, Access(authfile=authfile))
        images.write_digest(digestfile, done.digest)
        reporter.result("done", image=output, image_digest=done.digest)
    for part in done.parts:
        typer.echo(f"{part.platform + ':':<10}{part.version or '(no version)'}  {part.digest}")
    typer.echo(f"Pushed digest: {done.digest}")
