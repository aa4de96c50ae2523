"""`compose fetch`: everything a compose needs in one file, for machines without a network."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from compose.cli import flags
from compose.cli.flags import ProgressStyle
from compose.pipeline.options import ComposeOptions


def command(
    treefile: flags.Treefile,
    bundle: Annotated[str, typer.Option("--bundle", metavar="FILE", help="File to write.", show_default=False)],
    extensions: Annotated[
        str | None,
        typer.Option("--extensions", metavar="FILE", help="File of extensions whose packages to include."),
    ] = None,
    arch: flags.Arch = None,
    layer_repo: flags.LayerRepo = None,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
) -> None:
    """Fetch everything a compose needs into one file.

    The bundle holds the treefile and its files, keys, metadata, packages and layers. compose tree --bundle=FILE and compose
    extensions --bundle=FILE then need no network.
    """
    from compose.pipeline.bundling import write_bundle

    options = ComposeOptions(
        treefile=treefile,
        basearch=arch,
        cachedir=flags.cachedir_or_default(cachedir),
        layer_repo=layer_repo,
        source_root=source_root,
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=cache_only,
        lockfiles=tuple(lockfile or ()),
        lockfile_strict=lockfile_strict,
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        count = write_bundle(options, bundle, reporter, extensions=extensions)
    typer.echo(f"{bundle}: {count} packages, {os.path.getsize(bundle) / 1e6:.1f} MB")
