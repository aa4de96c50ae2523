"""`compose container-encapsulate`: convert a commit into a container image."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.cli import flags, images
from compose.cli.flags import ProgressStyle


def command(
    ostree_ref: Annotated[str, typer.Argument(metavar="OSTREE_REF", help="Ref or commit.", show_default=False)],
    imgref: Annotated[
        str,
        typer.Argument(
            metavar="IMGREF",
            help="oci:DIR[:TAG], oci-archive:FILE[:TAG], registry:HOST/NAME[:TAG], containers-storage:NAME.",
            show_default=False,
        ),
    ],
    repo: flags.CommitRepo,
    label: images.Label = None,
    image_config: images.ImageConfig = None,
    arch: Annotated[
        str | None,
        typer.Option("--arch", metavar="ARCH", help="OCI or RPM architecture; that of the packages by default."),
    ] = None,
    copymeta: Annotated[
        list[str] | None,
        typer.Option("--copymeta", metavar="KEY", help="Copy this key of the commit's metadata to a label."),
    ] = None,
    copymeta_opt: Annotated[
        list[str] | None,
        typer.Option("--copymeta-opt", metavar="KEY", help="Like --copymeta, but the key may be absent."),
    ] = None,
    cmd: Annotated[
        list[str] | None,
        typer.Option(
            "--cmd", metavar="WORD", help="Command of the container; once for the program and for each argument."
        ),
    ] = None,
    max_layers: images.MaxLayers = None,
    format_version: images.FormatVersion = 1,
    write_contentmeta_json: Annotated[
        str | None,
        typer.Option("--write-contentmeta-json", metavar="FILE", help="Write a JSON description of the packages."),
    ] = None,
    compare_with_build: Annotated[
        str | None,
        typer.Option("--compare-with-build", metavar="IMGREF", help="Compare the layers with this image's."),
    ] = None,
    previous_build_manifest: Annotated[
        str | None,
        typer.Option(
            "--previous-build-manifest",
            metavar="FILE",
            help="Keep the layer structure of the image with this manifest.",
        ),
    ] = None,
    digestfile: images.DigestFile = None,
    authfile: flags.AuthFile = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Convert a commit into a container image.

    Clients can switch to it and update from it layer by layer. A layout keeps its other images; an archive is replaced.
    """
    from compose.oci.chunking import MOST_LAYERS
    from compose.oci.image import ImageOptions, read_image_config
    from compose.oci.skopeo import Access
    from compose.pipeline.encapsulate import EncapsulateOptions, encapsulate_commit

    options = EncapsulateOptions(
        repo=repo,
        revision=ostree_ref,
        target=imgref,
        image=ImageOptions(
            labels=flags.key_values(label, "--label"),
            copymeta=tuple(copymeta or ()),
            copymeta_opt=tuple(copymeta_opt or ()),
            cmd=tuple(cmd) if cmd else None,
            image_config=read_image_config(image_config) if image_config is not None else None,
            arch=arch,
        ),
        max_layers=max_layers if max_layers is not None else MOST_LAYERS,
        parents=images.has_parents(format_version),
        contentmeta=write_contentmeta_json,
        compare=compare_with_build,
        previous=previous_build_manifest,
        jobs=flags.jobs_or_all(jobs),
        access=Access(authfile=authfile),
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        images.check_digest_file(digestfile)
        done = encapsulate_commit(options, reporter)
        images.write_digest(digestfile, done.image.digest)
        reporter.result("done", image=imgref, image_digest=done.image.digest)
    for line in images.image_lines(done.image, done.difference):
        typer.echo(line)
    typer.echo(f"Pushed digest: {done.image.digest}")
