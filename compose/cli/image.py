"""`compose image`: compose a tree into a container image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli import flags, images
from compose.cli.flags import ProgressStyle
from compose.errors import UsageError

if TYPE_CHECKING:
    from compose.oci.reference import ImageReference
    from compose.pipeline.image import ComposedImage


class OutputFormat(StrEnum):
    OCIARCHIVE = "ociarchive"
    OCI = "oci"
    REGISTRY = "registry"


class InitializeMode(StrEnum):
    QUERY = "query"
    ALWAYS = "always"
    NEVER = "never"
    IF_NOT_EXISTS = "if-not-exists"


_TRANSPORTS = {OutputFormat.OCIARCHIVE: "oci-archive", OutputFormat.OCI: "oci", OutputFormat.REGISTRY: "registry"}
# transports of image references; paths may begin like one, as in ./oci:x, and hosts with a port, as in registry:5000/x
_PREFIXES = ("oci", "oci-archive", "docker", "registry", "containers-storage", "dir", "docker-archive", "docker-daemon")
_PORT = re.compile(r"\d+/")


def command(
    manifest: flags.Treefile,
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT", help="FILE, DIR[:TAG] or HOST/NAME[:TAG], depending on --format.", show_default=False
        ),
    ],
    output_format: Annotated[
        OutputFormat, typer.Option("--format", help="Format of OUTPUT.")
    ] = OutputFormat.OCIARCHIVE,
    initialize: Annotated[
        bool, typer.Option("--initialize", "-i", help="Ignore any existing image, as for a first build.")
    ] = False,
    initialize_mode: Annotated[
        InitializeMode,
        typer.Option(
            "--initialize-mode",
            help="query: there must be a previous image; always: ignore any; never: there must be none; "
            "if-not-exists: there may be one.",
        ),
    ] = InitializeMode.QUERY,
    label: images.Label = None,
    image_config: images.ImageConfig = None,
    max_layers: images.MaxLayers = None,
    digestfile: images.DigestFile = None,
    authfile: flags.AuthFile = None,
    copy_retry_times: Annotated[
        int, typer.Option("--copy-retry-times", metavar="N", min=0, help="Retry a push to a registry this many times.")
    ] = 0,
    arch: flags.Arch = None,
    layer_repo: flags.LayersFrom = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
    offline: flags.Offline = False,
    force_nocache: flags.ForceNocache = False,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
    accept_new_ids: flags.AcceptNewIds = False,
    write_lockfile_to: flags.WriteLockfile = None,
    write_composejson_to: flags.ResultFile = None,
    touch_if_changed: Annotated[
        str | None,
        typer.Option("--touch-if-changed", metavar="FILE", help="Touch this file if there is a new image."),
    ] = None,
    unchanged_exit_77: flags.UnchangedExit77 = False,
) -> None:
    """Compose a tree into a container image.

    Follows an existing image: if nothing changed since, nothing is made; otherwise the new image continues its version and
    layer structure, so that clients fetch little.
    """
    if initialize and initialize_mode is not InitializeMode.QUERY:
        raise UsageError("--initialize and --initialize-mode exclude each other")
    if lockfile_strict and not lockfile:
        raise UsageError("--lockfile-strict needs a --lockfile")
    target = _target(output, output_format)
    from compose.cli.tree import report_result
    from compose.oci.chunking import MOST_LAYERS
    from compose.oci.image import ImageOptions, read_image_config
    from compose.oci.skopeo import Access
    from compose.pipeline.image import ComposeImageOptions, Initialize, compose_image
    from compose.pipeline.options import ComposeOptions

    mode = InitializeMode.ALWAYS if initialize else initialize_mode
    options = ComposeImageOptions(
        tree=ComposeOptions(
            treefile=manifest,
            basearch=arch,
            layer_repo=layer_repo,
            cachedir=flags.cachedir_or_default(cachedir),
            source_root=source_root,
            jobs=flags.jobs_or_all(jobs),
            proxy=flags.proxy_or_environment(proxy),
            cache_only=cache_only or offline,
            force_nocache=force_nocache,
            lockfiles=tuple(lockfile or ()),
            lockfile_strict=lockfile_strict,
            accept_new_ids=accept_new_ids,
            write_lockfile_to=write_lockfile_to,
            write_composejson_to=write_composejson_to,
            touch_if_changed=touch_if_changed,
            source_date_epoch=flags.source_date_epoch(),
        ),
        target=target,
        initialize=Initialize(mode.value),
        image=ImageOptions(
            labels=flags.key_values(label, "--label"),
            image_config=read_image_config(image_config) if image_config is not None else None,
        ),
        max_layers=max_layers if max_layers is not None else MOST_LAYERS,
        access=Access(authfile=authfile, retries=copy_retry_times),
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        images.check_digest_file(digestfile)
        done = compose_image(options, reporter)
        if done.image is not None:
            images.write_digest(digestfile, done.image.digest)
        made = {} if done.image is None else {"image": str(target), "image_digest": done.image.digest}
        report_result(done.tree, reporter, **made)
    for line in _summary(done, target):
        typer.echo(line)
    if unchanged_exit_77 and done.image is None:
        raise typer.Exit(flags.UNCHANGED)


def _target(output: str, output_format: OutputFormat) -> ImageReference:
    from compose.oci.reference import parse_reference

    kind, colon, rest = output.partition(":")
    if colon and kind in _PREFIXES and not (output_format is OutputFormat.REGISTRY and _PORT.match(rest)):
        raise UsageError(
            f"{output}: OUTPUT takes no transport",
            hint=f"leave out {kind}: and give --format; for a file or directory of that name, write ./{kind}",
        )
    first, slash, _ = output.partition("/")
    if output_format is not OutputFormat.REGISTRY and slash and first and not os.path.isdir(first):
        raise UsageError(
            f"{output}: there is no directory {first}",
            hint=f"--format={output_format} writes files; for an image in a registry give --format=registry",
        )
    return parse_reference(f"{_TRANSPORTS[output_format]}:{output}")


def _summary(done: ComposedImage, target: ImageReference) -> Iterator[str]:
    if done.image is None:
        yield "No apparent changes since previous image; use --force-nocache to override"
        return
    yield f"commit: {done.tree.commit}"
    yield f"version: {done.tree.version or '(none)'}"
    yield from images.image_lines(done.image, done.difference)
    yield f"Wrote: {target}"
    yield f"digest: {done.image.digest}"
