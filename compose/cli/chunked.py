"""`compose build-chunked-oci`: convert a root directory, or an image, into a container image with package layers."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.cli import flags, images
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
    rootfs: Annotated[str | None, typer.Option("--rootfs", metavar="PATH", help="Root directory.")] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="IMGREF", help="Image to read instead; in containers-storage if it has no transport."
        ),
    ] = None,
    bootc: Annotated[bool, typer.Option("--bootc", help="Make an image for bootc; required.")] = False,
    format_version: images.FormatVersion = 1,
    label: images.Label = None,
    max_layers: images.MaxLayers = None,
    previous_build: Annotated[
        str | None,
        typer.Option(
            "--previous-build",
            metavar="IMGREF",
            help="Keep the layer structure of this image, instead of the one at --output.",
        ),
    ] = None,
    sign_commit: Annotated[
        list[str] | None,
        typer.Option(
            "--sign-commit", metavar="KIND=FILE", help="Sign the commit: ed25519=FILE or spki=FILE (repeatable)."
        ),
    ] = None,
    digestfile: images.DigestFile = None,
    authfile: flags.AuthFile = None,
    cachedir: flags.CacheDirectory = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    reference: Annotated[str | None, typer.Option("--reference", hidden=True)] = None,
) -> None:
    """Split a root or an image into package layers.

    Makes a chunked container image of a root directory, or of another image, with layers as for a composed tree. The root is
    committed as it is, with /etc as /usr/etc, labelled by its own policy and dated like the directory or image; the contents
    of /sysroot are left out. The configuration of an image is kept.
    """
    if (rootfs is None) == (image is None):
        raise UsageError(
            "give a root directory with --rootfs, or an image with --from"
            if rootfs is None
            else "--rootfs and --from exclude each other"
        )
    if not bootc:
        raise UsageError(
            "--bootc is missing", hint="give it: rpm-ostree requires it too, and no other kind of image is supported"
        )
    if reference is not None:
        raise UsageError(f"--reference={reference} is not supported", hint="put the tag into --output: oci:DIR:TAG")
    from compose.oci.chunking import MOST_LAYERS
    from compose.oci.image import ImageOptions
    from compose.oci.reference import parse_reference, parse_source
    from compose.oci.skopeo import Access
    from compose.ostree.keys import read_keys
    from compose.pipeline.chunked import ChunkedOptions, build_chunked

    source = rootfs or "" if image is None else parse_source(image)
    options = ChunkedOptions(
        source=source,
        target=parse_reference(output),
        cachedir=flags.cachedir_or_default(cachedir),
        previous=parse_reference(previous_build) if previous_build is not None else None,
        image=ImageOptions(labels=flags.key_values(label, "--label")),
        max_layers=max_layers if max_layers is not None else MOST_LAYERS,
        parents=images.has_parents(format_version),
        keys=tuple(key for each in sign_commit or () for key in read_keys(each)),
        time=flags.source_date_epoch(),
        jobs=flags.jobs_or_all(jobs),
        access=Access(authfile=authfile),
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        images.check_digest_file(digestfile)
        done = build_chunked(options, reporter)
        images.write_digest(digestfile, done.image.digest)
        reporter.result("done", image=output, image_digest=done.image.digest)
    for line in images.image_lines(done.image, done.difference):
        typer.echo(line)
    typer.echo(f"Pushed digest: {done.image.digest}")
