"""`compose watch`: recompose whenever an input changes."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cachedir import PREVIEW, CacheDir
from compose.cli import flags
from compose.cli.ending import describe
from compose.cli.flags import Format, ProgressStyle
from compose.cli.reporter import CommandReporter
from compose.cli.serve import Bind, Port, introduction, until_stopped, warn_of_reach
from compose.cli.tree import report_result
from compose.ostree.repo import Repo
from compose.pipeline.options import ComposeOptions, ComposeResult, Outcome
from compose.serve.offered import offered
from compose.serve.server import Server

if TYPE_CHECKING:
    from compose.pipeline.watching import Round

_PATHS_SHOWN = 3


def command(
    treefile: flags.Treefile,
    arch: flags.Arch = None,
    repo: flags.Repo = None,
    layer_repo: flags.LayerRepo = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
    lockfile: flags.Lockfile = None,
    lockfile_strict: flags.LockfileStrict = False,
    disable_selinux: flags.DisableSelinux = False,
    add_metadata_string: flags.MetadataStrings = None,
    serve: Annotated[bool, typer.Option("--serve", help="Also serve the repository; see compose serve.")] = False,
    bind: Bind = "127.0.0.1",
    port: Port = 8080,
) -> None:
    """Recompose whenever an input changes.

    Inputs are TREEFILE and the files it names, .repo files, lockfiles, and local package repositories. Errors are shown as by
    compose tree, and the next change starts another try. Ctrl-C or SIGTERM ends it with exit code 0.
    """
    if not serve:
        flags.refuse("needs --serve", "bind", "port")
    from compose.pipeline.watching import watch

    options = ComposeOptions(
        treefile=treefile,
        basearch=arch,
        repo=repo,
        layer_repo=layer_repo,
        cachedir=flags.cachedir_or_default(cachedir),
        source_root=source_root,
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=cache_only,
        lockfiles=tuple(lockfile or ()),
        lockfile_strict=lockfile_strict,
        disable_selinux=disable_selinux,
        metadata_strings=flags.key_values(add_metadata_string),
        source_date_epoch=flags.source_date_epoch(),
    )
    events_only = flags.events_only(progress, progress_fd)
    with flags.reporter_of(progress, progress_fd) as reporter, until_stopped(), ExitStack() as stack:
        opened = stack.enter_context(_open(options))
        server = None
        if serve:
            server = stack.enter_context(Server(opened, bind, port, reporter))
            stack.enter_context(server.in_background())
            warn_of_reach(server, reporter)
            typer.echo(introduction(server, offered(opened, reporter), Format.TEXT), nl=False)
        elif repo is None:
            typer.echo(f"Composing into {opened.path}; to serve it: compose serve --repo={opened.path}")
        watch(options, reporter, _RoundReporter(reporter, server, events_only=events_only).report)


class _RoundReporter:
    """Shows each round: one line on standard output, preceded by any error on standard error."""

    def __init__(self, reporter: CommandReporter, server: Server | None, *, events_only: bool) -> None:
        """events_only: whether standard error carries JSON events and nothing else."""
        self._reporter = reporter
        self._server = server
        self._events_only = events_only
        # refs that existed at the start have been introduced already
        self._introduced = set(server.repo.refs()) if server is not None else set()

    def report(self, found: Round) -> None:
        if found.error is not None:
            self._reporter.failed(found.error)
            if not self._events_only:
                print(describe(found.error), file=sys.stderr, flush=True)
        elif found.result is not None:
            report_result(found.result, self._reporter, changed=list(found.changed))
        typer.echo(line_of(found))
        if self._server is not None and found.result is not None and found.result.ref not in {None, *self._introduced}:
            self._introduced = set(self._server.repo.refs())
            rows = offered(self._server.repo, self._reporter)
            typer.echo(introduction(self._server, rows, Format.TEXT), nl=False)


def line_of(found: Round) -> str:
    """One line: what changed, the result, and how long it took."""
    paths = [*found.changed[:_PATHS_SHOWN]]
    if len(found.changed) > _PATHS_SHOWN:
        paths.append(f"{len(found.changed) - _PATHS_SHOWN} more")
    because = f"{', '.join(paths)} changed: " if paths else ""
    return f"{because}{_outcome(found.result) if found.result else 'failed'}, {found.seconds:.1f}s"


def _outcome(result: ComposeResult) -> str:
    if result.outcome is Outcome.UNCHANGED:
        return f"nothing new, {result.ref or 'the commit'} stays {result.commit}"
    version = f", version {result.version}" if result.version else ""
    kinds = Counter(kind for _, kind, _ in result.pkgdiff or ())
    # RpmOstreePackageDiffType: added, removed, upgraded, downgraded
    packages = f", packages +{kinds[0]} -{kinds[1]} ~{kinds[2] + kinds[3]}" if result.pkgdiff is not None else ""
    return f"{result.ref or 'commit'} => {result.commit}{version}{packages}"


def _open(options: ComposeOptions) -> Repo:
    """Open the repository to compose into; a preview repository is created if missing."""
    if options.repo is not None:
        return Repo.open(options.repo)
    return Repo.create(os.path.join(CacheDir(options.cachedir).path, PREVIEW))
