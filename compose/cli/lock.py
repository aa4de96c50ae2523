"""`compose lock`: record the exact builds of a treefile's packages in a lockfile beside it."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Container, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import click
import typer
from typer.core import TyperGroup

from compose.cli import flags
from compose.cli.flags import Format, ProgressStyle
from compose.cli.plain import plain
from compose.cli.plan import describe_advisory
from compose.cli.sizes import counted
from compose.errors import TreefileError, UsageError
from compose.pipeline.options import ComposeOptions

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from compose.lock.model import Change, LockDiff


class _DefaultsToWrite(TyperGroup):
    """Makes `compose lock fedora.yaml` mean `compose lock write fedora.yaml`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = (*self.commands, *self.get_help_option_names(ctx))
        if args and args[0] not in known:
            # a misspelt command is reported as such
            misspelt = difflib.get_close_matches(args[0], known, cutoff=0.75) and not os.path.exists(args[0])
            args = args if misspelt else ["write", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return super().shell_complete(ctx, incomplete) or [CompletionItem(incomplete, type="file")]


app = typer.Typer(
    cls=_DefaultsToWrite,
    help="Lock the packages of a treefile.\n\ncompose lock TREEFILE writes its lockfile.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Path = Annotated[
    str | None,
    typer.Option("--lockfile", metavar="FILE", help="Lockfile; by default TREEFILE with the suffix .lock.yaml."),
]
_Arches = Annotated[
    list[str] | None,
    typer.Option("--arch", metavar="BASEARCH", help="Architecture to lock, repeatable; this machine's by default."),
]


@app.command("write")
def write(
    treefile: flags.Treefile,
    lockfile: _Path = None,
    arch: _Arches = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
) -> None:
    """Solve a treefile and lock the result.

    Ignores what was locked before; `compose lock TREEFILE` is short for this.
    """
    options = _options(treefile, cachedir, source_root, jobs, proxy, cache_only)
    _lock(options, lockfile, arch, progress, progress_fd)


@app.command("update")
def update(
    treefile: flags.Treefile,
    packages: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PACKAGE...]", help="Binary or source packages to update; all by default."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep all locked builds, and only add and remove what the treefile requires.")
    ] = False,
    security: Annotated[
        bool, typer.Option("--security", help="Update only packages that fix security advisories.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    unchanged_exit_77: flags.UnchangedExit77 = False,
    lockfile: _Path = None,
    arch: _Arches = None,
    cachedir: flags.CacheDirectory = None,
    source_root: flags.SourceRoot = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    cache_only: flags.CacheOnly = False,
) -> None:
    """Update a lockfile, and list the security advisories that this fixes.

    Given packages, updates only these, their requirements, and packages that are new in the treefile. --security also updates
    the packages built from the same sources.
    """
    if security and (packages or keep):
        raise UsageError(f"--security and {'PACKAGE' if packages else '--keep'} exclude each other")
    if packages and keep:
        raise UsageError("--keep and PACKAGE exclude each other", hint="given a PACKAGE, all others are kept")
    options = _options(treefile, cachedir, source_root, jobs, proxy, cache_only)
    moving = packages or ([] if keep else None)
    changed = _lock(options, lockfile, arch, progress, progress_fd, moving=moving, security=security, dry_run=dry_run)
    if unchanged_exit_77 and not changed:
        raise typer.Exit(flags.UNCHANGED)


@app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Old lockfile.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="New lockfile.")],
    form: flags.Form = Format.TEXT,
) -> None:
    """Show which builds and advisories differ between two lockfiles."""
    from compose.lock.model import compare_locks
    from compose.pipeline import locks

    before, after = locks.read(old), locks.read(new)
    if before is None or after is None:
        raise TreefileError(f"cannot read the lockfile {old if before is None else new}: No such file or directory")
    found = [
        (arch, compare_locks(before.arches.get(arch), after.arches.get(arch)))
        for arch in sorted(before.arches.keys() | after.arches.keys())
    ]
    if form is Format.JSON:
        typer.echo(json.dumps([{"basearch": arch, **plain(each)} for arch, each in found if each], indent=2))
        return
    for arch, each in found:
        for line in _lines(each):
            typer.echo(f"{arch}: {line}")


def _options(
    treefile: str,
    cachedir: str | None,
    source_root: str | None,
    jobs: int | None,
    proxy: str | None,
    cache_only: bool,
) -> ComposeOptions:
    return ComposeOptions(
        treefile=treefile,
        cachedir=flags.cachedir_or_default(cachedir),
        source_root=source_root,
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=cache_only,
    )


def _lock(
    options: ComposeOptions,
    lockfile: str | None,
    arches: list[str] | None,
    progress: ProgressStyle,
    progress_fd: int | None,
    *,
    moving: list[str] | None = None,
    security: bool = False,
    dry_run: bool = False,
) -> bool:
    """Whether anything changed."""
    # imported late, because the stages take a while to import
    from compose.pipeline import locks

    path = lockfile or locks.default_path(options.treefile)
    would = "would change" if dry_run else "changed"
    any_changed = False
    with flags.reporter_of(progress, progress_fd) as reporter:
        for arch in arches or (None,):
            done = locks.write_lock(
                replace(options, basearch=arch), path, reporter, moving=moving, security=security, dry_run=dry_run
            )
            reporter.leave()
            fixed = frozenset(advisory.id for advisory in done.fixes)
            for line in _lines(done.diff, without=fixed):
                typer.echo(line)
            for advisory in done.fixes:
                typer.echo(f"fixes {describe_advisory(advisory)}")
            count = len(done.diff.packages)
            what = counted(count, "package") if count else "advisories"
            typer.echo(f"{path}: {what} {would}" if done.diff else f"{path}: no change")
            any_changed = any_changed or bool(done.diff)
    return any_changed


def _lines(diff: LockDiff, without: Container[str] = ()) -> Iterator[str]:
    """without: ids of advisories that are described elsewhere."""
    yield from map(_described, diff.packages)
    for event, advisories in (("added", diff.advisories_added), ("gone", diff.advisories_gone)):
        for advisory in advisories:
            if advisory.id not in without:
                yield f"advisory {event}: {describe_advisory(advisory)}"


def _described(change: Change) -> str:
    if change.before is None and change.after is not None:
        return f"{change.name} added {change.after.evr} ({change.arch})"
    if change.before is not None and change.after is None:
        return f"{change.name} removed {change.before.evr} ({change.arch})"
    assert change.before is not None and change.after is not None
    return f"{change.name} {change.before.evr} -> {change.after.evr} ({change.arch})"
