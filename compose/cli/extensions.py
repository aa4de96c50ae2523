"""`compose extensions`: packages that clients may put on top of a tree, fetched beside it."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.cli import flags
from compose.cli.flags import ProgressStyle
from compose.pipeline.options import ComposeOptions


def command(
    treefile: flags.Treefile,
    extensions: Annotated[
        str, typer.Argument(metavar="EXTENSIONS", help="File of extensions, YAML or JSON.", show_default=False)
    ],
    output_dir: Annotated[
        str, typer.Option("--output-dir", metavar="DIR", help="Where the RPMs go.", show_default=False)
    ],
    repo: Annotated[
        str | None, typer.Option("--repo", "-r", metavar="REPO", help="OSTree repository that has the tree.")
    ] = None,
    base_rev: Annotated[
        str | None, typer.Option("--base-rev", metavar="REV", help="The tree; by default the treefile's ref.")
    ] = None,
    rootfs: Annotated[
        str | None, typer.Option("--rootfs", metavar="PATH", help="A root directory in place of --repo.")
    ] = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
    touch_if_changed: Annotated[
        str | None,
        typer.Option("--touch-if-changed", metavar="FILE", help="Touch this if DIR holds something else than before."),
    ] = None,
    unchanged_exit_77: flags.UnchangedExit77 = False,
    unified_core: flags.UnifiedCore = False,
) -> None:
    """Fetch packages that clients may add to a tree.

    Solved on top of the tree, of which nothing changes. DIR also gets extensions.json; RPMs that an earlier run put there,
    and that are not part any more, are removed.
    """
    del unified_core
    from compose.pipeline.extensions import fetch_extensions

    options = ComposeOptions(
        treefile=treefile,
        cachedir=flags.cachedir_or_default(cachedir),
        repo=repo,
        source_root=source_root,
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=cache_only,
        touch_if_changed=touch_if_changed,
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        result = fetch_extensions(options, extensions, output_dir, base=base_rev, rootfs=rootfs, reporter=reporter)
    if not result.changed:
        typer.echo("No change.")
        if unchanged_exit_77:
            raise typer.Exit(flags.UNCHANGED)
        return
    for package in result.packages:
        typer.echo(f"  {package.nevra} ({package.repo})")
    typer.echo(f"{output_dir}: {len(result.packages)} packages")
