"""`compose delta`: what clients fetch in a few files to go from one commit to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli import flags
from compose.cli.flags import Format, ProgressStyle
from compose.cli.plain import plain
from compose.cli.sizes import size
from compose.errors import UsageError

if TYPE_CHECKING:
    from compose.ostree.delta.write import WrittenDelta

_MEGABYTE = 1_000_000


def command(
    repo: Annotated[str, typer.Option("--repo", "-r", metavar="REPO", help="OSTree repository.", show_default=False)],
    target: Annotated[
        str | None, typer.Argument(metavar="TO", help="Ref or commit that clients get.", show_default=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="REV", help="What they have; the parent of TO by default.")
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="For clients that have nothing.")] = False,
    to: Annotated[str | None, typer.Option("--to", metavar="REV", help="The same as TO.")] = None,
    inline: Annotated[bool, typer.Option("--inline", help="All in one file.")] = False,
    if_not_exists: Annotated[bool, typer.Option("--if-not-exists", "-n", help="Leave one that is there.")] = False,
    disable_bsdiff: Annotated[bool, typer.Option("--disable-bsdiff", help="Do without bsdiff.")] = False,
    min_fallback_size: Annotated[
        int,
        typer.Option(
            "--min-fallback-size",
            min=0,
            metavar="MB",
            help="Larger new files are fetched as they are; 0 for none.",
        ),
    ] = 4,
    max_bsdiff_size: Annotated[
        int, typer.Option("--max-bsdiff-size", min=0, metavar="MB", help="No differences of larger files.")
    ] = 128,
    max_chunk_size: Annotated[
        int, typer.Option("--max-chunk-size", min=1, metavar="MB", help="Of a part, before it is compressed.")
    ] = 32,
    form: Annotated[Format, typer.Option("--format", help="How to show it.")] = Format.TEXT,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Make a static delta: an update that clients fetch as a few files.

    It is made on all cores. What clients fetch with it is shown beside what they fetch without. The summary, if there is one,
    lists it; sign that again.
    """
    if (target is None) == (to is None):
        raise UsageError("give the commit that clients get" if to is None else "TO and --to: give one of them")
    if empty and source is not None:
        raise UsageError("--empty and --from: give one of them")
    from compose.ostree.delta.write import DeltaOptions
    from compose.pipeline.delta import make_delta

    options = DeltaOptions(
        min_fallback_size=min_fallback_size * _MEGABYTE,
        max_chunk_size=max_chunk_size * _MEGABYTE,
        max_bsdiff_size=max_bsdiff_size * _MEGABYTE,
        inline=inline,
        use_bsdiff=not disable_bsdiff,
        if_not_exists=if_not_exists,
        jobs=flags.jobs_or_all(jobs),
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        written = make_delta(repo, target or to or "", source, options, reporter, empty=empty)
    if form is Format.JSON:
        typer.echo(json.dumps(_document(written), indent=2))
    else:
        typer.echo("No change: the delta is there." if written is None else _line(written))


def _line(written: WrittenDelta) -> str:
    source = "nothing" if written.source is None else written.source[:12]
    files = 1 + (0 if written.inline else len(written.parts)) + written.fallbacks
    line = f"From {source} to {written.target[:12]}: {size(written.fetched_bytes)} in {_files(files)}"
    if written.loose_bytes is None:
        return line
    objects = 1 + written.metadata + written.files + written.fallbacks
    return f"{line}; without the delta {size(written.loose_bytes)} in {_files(objects)}"


def _files(count: int) -> str:
    return "one file" if count == 1 else f"{count} files"


def _document(written: WrittenDelta | None) -> dict[str, Any]:
    return (
        {"written": False}
        if written is None
        else {"written": True, "fetched_bytes": written.fetched_bytes, **plain(written)}
    )
