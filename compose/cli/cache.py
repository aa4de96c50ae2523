"""`compose cache`: inspect and clean the cachedir."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cachedir import CacheDir
from compose.cli import flags
from compose.cli.flags import FOUND, Format, ProgressStyle
from compose.cli.progress import quantity
from compose.cli.sizes import counted, parse_size
from compose.errors import ComposeError, UsageError

if TYPE_CHECKING:
    from compose.cache.inventory import Compose, Item

app = typer.Typer(
    help="Inspect and clean the cachedir: show, gc, verify.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_DAY = 86400
_DESCRIPTIONS = {
    "repomd": ("copy of repository metadata", "copies of repository metadata"),
    "rpms": ("RPM", "RPMs"),
    "manifests": ("manifest of an RPM", "manifests of RPMs"),
    "programs": ("recorded program run", "recorded program runs"),
    "lower-layers": ("root of program runs", "roots of program runs"),
    "blobs": ("file content", "file contents"),
    "memos": ("memoized result", "memoized results"),
    "work": ("scratch directory", "scratch directories"),
    "preview-repo": ("preview repository", "preview repositories"),
    "image-repo": ("repository of images", "repositories of images"),
}
"""What entries of each kind are: one, and several."""
_LABELS = {kind: several for kind, (_, several) in _DESCRIPTIONS.items()} | {"objects": "objects already committed"}


@app.command("show")
def show(
    cachedir: flags.CacheDirectory = None,
    form: flags.Form = Format.TEXT,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Show the contents of the cachedir, their last use, and hit rates of past composes."""
    from compose.cache.inventory import past_composes, take_stock

    with (
        flags.reporter_of(progress, progress_fd) as reporter,
        _existing(cachedir).shared(reporter) as cache,
    ):
        items = take_stock(cache)
        composes = past_composes(cache)
    if form is Format.JSON:
        report = {
            "path": cache.path,
            "kinds": _kinds(items),
            "bytes": sum(item.size for item in items),
            "composes": len(composes),
            "hits": {what: {"asked": asked, "found": hits} for what, (asked, hits) in _hits(composes).items()},
        }
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(cache.path)
    for kind, row in _kinds(items).items():
        if row["entries"]:
            used = f"used {_date(row['used_first'])} to {_date(row['used_last'])}"
            typer.echo(f"{_LABELS[kind]:30}{quantity(row['bytes'], 'bytes'):>12}{row['entries']:>9}  {used}")
    typer.echo(f"{'total':30}{quantity(sum(item.size for item in items), 'bytes'):>12}")
    if composes:
        typer.echo(f"cache hits of {counted(len(composes), 'past compose')}:")
    for what, (asked, hits) in _hits(composes).items():
        share = f" ({100 * hits / asked:.1f} %)" if asked else ""
        typer.echo(f"{_LABELS.get(what, what):30}{hits:>9} of {asked}{share}")


@app.command("gc")
def gc(
    cachedir: flags.CacheDirectory = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size", metavar="SIZE", help="Reduce the cache to this size: bytes, or 500M, 20G (powers of 1000)."
        ),
    ] = None,
    keep_days: Annotated[
        int | None, typer.Option("--keep-days", metavar="N", min=0, help="Keep what was used in the last N days.")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Remove the preview repository too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    wait: Annotated[
        int, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for running composes.")
    ] = 300,
    form: flags.Form = Format.TEXT,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Remove what is no longer needed, least recently used first.

    Without a limit, removes only what no compose could use. Composes that start meanwhile wait.
    """
    from compose.cache.collect import Limits, collect

    limits = Limits(
        max_size=None if max_size is None else parse_size("--max-size", max_size),
        unused_since=None if keep_days is None else time.time() - keep_days * _DAY,
        preview=preview,
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        gone, left = collect(_existing(cachedir), limits, reporter, timeout=wait, dry_run=dry_run)
    freed = sum(item.size for item in gone)
    if form is Format.JSON:
        typer.echo(json.dumps({"removed": _kinds(gone), "bytes_freed": freed, "bytes_left": left}, indent=2))
        return
    verb = "would remove" if dry_run else "removed"
    for kind, row in _kinds(gone).items():
        if row["entries"]:
            typer.echo(f"{verb}: {counted(row['entries'], *_DESCRIPTIONS[kind])}, {quantity(row['bytes'], 'bytes')}")
    typer.echo(f"{quantity(freed, 'bytes')} {'would be freed' if dry_run else 'freed'}, {quantity(left, 'bytes')} left")


@app.command("verify")
def verify(
    cachedir: flags.CacheDirectory = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Check every checksum, and remove what is damaged. Exits with 1 if anything was.

    Composes notice modified files, and damage in everything they hash; only this command finds silent disk corruption in the
    rest. It may run beside composes.
    """
    from compose.cache.verify import verify as verify_cache

    with flags.reporter_of(progress, progress_fd) as reporter:
        count, damaged = verify_cache(_existing(cachedir), flags.jobs_or_all(jobs), reporter)
        if damaged:
            reporter.failed(ComposeError(f"{len(damaged)} of {count} were damaged and are removed", details=damaged))
    for path in damaged:
        typer.echo(f"damaged, removed: {path}")
    typer.echo(f"{count - len(damaged)} of {count} are intact")
    if damaged:
        raise typer.Exit(FOUND)


def _existing(given: str | None) -> CacheDir:
    """Open a cachedir without creating it. Raises UsageError if there is none."""
    path = flags.cachedir_or_default(given)
    if not os.path.isdir(path):
        raise UsageError(f"there is no cachedir {path}")
    return CacheDir(path)


def _kinds(items: Iterable[Item]) -> dict[str, dict[str, Any]]:
    from compose.cache.inventory import Kind

    found: dict[str, dict[str, Any]] = {kind: {"entries": 0, "bytes": 0} for kind in Kind}
    for item in items:
        row = found[item.kind]
        used = int(item.used)
        row["entries"] += 1
        row["bytes"] += item.size
        row["used_first"] = min(row.get("used_first", used), used)
        row["used_last"] = max(row.get("used_last", used), used)
    return found


def _hits(composes: Iterable[Compose]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for compose in composes:
        for what, (asked, hits) in compose.counts.items():
            before = found.get(what, (0, 0))
            found[what] = (before[0] + asked, before[1] + hits)
    return found


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
