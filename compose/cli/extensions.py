"""`compose extensions`: fetch packages that clients may layer on a tree."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.cli import flags
from compose.cli.flags import ProgressStyle
from compose.cli.sizes import counted
from compose.errors import UsageError
from compose.pipeline.options import ComposeOptions


def command(
    output_dir: Annotated[
        str, typer.Option("--output-dir", metavar="DIR", help="Directory for the RPMs.", show_default=False)
    ],
    treefile: flags.OptionalTreefile = None,
    extensions: Annotated[
        str | None,
        typer.Argument(
            metavar="EXTENSIONS", help="File of extensions, YAML or JSON; none with --bundle.", show_default=False
        ),
    ] = None,
    repo: Annotated[
        str | None, typer.Option("--repo", "-r", metavar="REPO", help="OSTree repository with the tree.")
    ] = None,
    base_rev: Annotated[
        str | None,
        typer.Option("--base-rev", metavar="REV", help="Ref or commit of the tree; the treefile's ref by default."),
    ] = None,
    rootfs: Annotated[
        str | None, typer.Option("--rootfs", metavar="PATH", help="Root directory, instead of --repo.")
    ] = None,
    arch: flags.Arch = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", metavar="FILE", help="Work offline from a bundle made by compose fetch --extensions."),
    ] = None,
    touch_if_changed: Annotated[
        str | None,
        typer.Option("--touch-if-changed", metavar="FILE", help="Touch this file if the contents of DIR changed."),
    ] = None,
    unchanged_exit_77: flags.UnchangedExit77 = False,
    unified_core: flags.UnifiedCore = False,
) -> None:
    """Fetch packages that clients may layer on a tree.

    They are solved on top of the tree without changing any of its packages. DIR also gets extensions.json; RPMs left by an
    earlier run that are no longer needed are removed.
    """
    del unified_core
    if bundle is None and (treefile is None or extensions is None):
        raise UsageError("give a TREEFILE and a file of EXTENSIONS")
    if bundle is not None and (treefile or arch or source_root):
        raise UsageError(
            "a bundle contains its own treefile, architecture, extensions and repositories: do not give others"
        )
    options = ComposeOptions(
        treefile=treefile or "",
        basearch=arch,
        cachedir=flags.cachedir_or_default(cachedir),
        repo=repo,
        source_root=source_root,
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=cache_only,
        touch_if_changed=touch_if_changed,
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        if bundle is None:
            from compose.pipeline.extensions import fetch_extensions

            result = fetch_extensions(
                options, extensions or "", output_dir, base=base_rev, rootfs=rootfs, reporter=reporter
            )
        else:
            from compose.pipeline.bundling import fetch_bundled_extensions

            result = fetch_bundled_extensions(
                options, bundle, output_dir, base=base_rev, rootfs=rootfs, reporter=reporter
            )
    if not result.changed:
        typer.echo("No change.")
        if unchanged_exit_77:
            raise typer.Exit(flags.UNCHANGED)
        return
    for package in result.packages:
        typer.echo(f"  {package.nevra} ({package.repo})")
    typer.echo(f"{output_dir}: {counted(len(result.packages), 'package')}")
