"""`compose fetch`: what a compose needs, in one file for machines without a network, or in a repository of your own."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from compose.cli import flags
from compose.cli.flags import ProgressStyle
from compose.cli.sizes import counted
from compose.errors import UsageError
from compose.events import Reporter
from compose.pipeline.options import ComposeOptions
from compose.sizes import size


def command(
    treefile: flags.Treefile,
    bundle: Annotated[
        str | None, typer.Option("--bundle", metavar="FILE", help="Write everything the compose needs into one file.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="DIR", help="Add the packages to a package repository of your own.")
    ] = None,
    extensions: Annotated[
        str | None,
        typer.Option("--extensions", metavar="FILE", help="File of extensions whose packages to include."),
    ] = None,
    arch: flags.Arch = None,
    layer_repo: flags.LayersFrom = None,
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
    """Fetch what a compose needs.

    A bundle holds the treefile and its files, keys, metadata, packages and layers. compose tree --bundle=FILE and compose
    extensions --bundle=FILE then need no network. A pool keeps packages that their repositories may drop: list it among the
    treefile's repos.
    """

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
        if pool is not None and bundle is None:
            line = _pooled(options, pool, extensions, reporter)
        elif bundle is not None and pool is None:
            line = _written(options, bundle, extensions, reporter)
        else:
            raise UsageError("give either --bundle=FILE or --pool=DIR")
        reporter.leave()
        typer.echo(line)


def _written(options: ComposeOptions, path: str, extensions: str | None, reporter: Reporter) -> str:
    from compose.pipeline.bundling import write_bundle

    count = write_bundle(options, path, reporter, extensions=extensions)
    return f"{path}: {counted(count, 'package')}, {size(os.path.getsize(path))}"


def _pooled(options: ComposeOptions, directory: str, extensions: str | None, reporter: Reporter) -> str:
    from compose.pipeline.pool import fill_pool

    done = fill_pool(options, directory, reporter, extensions=extensions)
    new = f"{len(done.added)} of them new, {size(done.size)}" if done.added else "all there already"
    return f"{directory}: {counted(done.packages, 'package')}, {new}"
