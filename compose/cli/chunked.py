"""`compose build-chunked-oci`: a root directory as a container image in layers of packages."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.cli import flags
from compose.cli.flags import ProgressStyle
from compose.errors import UsageError


def command(
    output: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="IMGREF",
            help="oci:DIR[:TAG], oci-archive:FILE[:TAG], registry:HOST/NAME[:TAG], containers-storage:NAME.",
            show_default=False,
        ),
    ],
    rootfs: Annotated[str | None, typer.Option("--rootfs", metavar="PATH", help="The root directory.")] = None,
    bootc: Annotated[bool, typer.Option("--bootc", help="Make an image for bootc; must be given.")] = False,
    format_version: Annotated[
        int, typer.Option("--format-version", help="2: each layer has the directories above its files.")
    ] = 1,
    label: flags.Label = None,
    max_layers: flags.MaxLayers = None,
    previous_build: Annotated[
        str | None,
        typer.Option(
            "--previous-build", metavar="IMGREF", help="Keep this image's structure, not that of the one at --output."
        ),
    ] = None,
    authfile: flags.AuthFile = None,
    cachedir: flags.CacheDirectory = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    image: Annotated[str | None, typer.Option("--from", hidden=True)] = None,
    sign_commit: Annotated[list[str] | None, typer.Option("--sign-commit", hidden=True)] = None,
    reference: Annotated[str | None, typer.Option("--reference", hidden=True)] = None,
) -> None:
    """Make a container image of a root directory.

    Of one that has packages: each is in the layers as those of a compose are. It is committed as it is, with /etc as
    /usr/etc, labelled by its own policy, and dated as the directory is; what is in /sysroot is left out.
    """
    if image is not None:
        raise UsageError(
            f"--from={image}: images are not mounted here",
            hint="mount it yourself, and give what that prints with --rootfs: podman image mount",
        )
    if rootfs is None:
        raise UsageError("give a root directory with --rootfs")
    if not bootc:
        raise UsageError("--bootc is missing", hint="no other kind of image is made, and rpm-ostree wants it said")
    if sign_commit:
        raise UsageError(
            "--sign-commit: commits in images are not signed here",
            hint="sign the image: skopeo copy --sign-by, or cosign",
        )
    if reference is not None:
        raise UsageError(f"--reference={reference}: is said with --output", hint="oci:DIR:TAG")
    if format_version not in (1, 2):
        raise UsageError(
            f"--format-version={format_version}: is not made", hint="1, or 2 with all directories in each layer"
        )
    from compose.cli.images import difference_lines, image_line
    from compose.oci.chunking import MOST_LAYERS
    from compose.oci.image import ImageOptions
    from compose.oci.reference import parse_reference
    from compose.oci.skopeo import Access
    from compose.pipeline.chunked import ChunkedOptions, build_chunked

    options = ChunkedOptions(
        rootfs=rootfs,
        target=parse_reference(output),
        cachedir=flags.cachedir_or_default(cachedir),
        previous=parse_reference(previous_build) if previous_build is not None else None,
        image=ImageOptions(labels=flags.key_values(label, "--label")),
        max_layers=max_layers if max_layers is not None else MOST_LAYERS,
        parents=format_version == 2,
        time=flags.source_date_epoch(),
        jobs=flags.jobs_or_all(jobs),
        access=Access(authfile=authfile),
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        done = build_chunked(options, reporter)
        reporter.result("done", image=output, image_digest=done.image.digest)
    typer.echo(image_line(done.image))
    if done.difference is not None:
        for line in difference_lines(done.difference):
            typer.echo(line)
    typer.echo(f"Pushed digest: {done.image.digest}")
