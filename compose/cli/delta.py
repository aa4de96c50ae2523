"""`compose delta`: static deltas, with which clients fetch an update in a few files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli import flags
from compose.cli.flags import Format, ProgressStyle
from compose.cli.plain import plain
from compose.cli.sizes import counted
from compose.errors import UsageError
from compose.sizes import size

if TYPE_CHECKING:
    from compose.ostree.delta.write import WrittenDelta

_MEGABYTE = 1_000_000


def command(
    repo: flags.CommitRepo,
    target: Annotated[
        str | None, typer.Argument(metavar="TO", help="Ref or commit that clients update to.", show_default=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="REV", help="What they update from; the parent of TO by default.")
    ] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Make it for clients that have nothing.")] = False,
    to: Annotated[str | None, typer.Option("--to", metavar="REV", help="The same as TO.")] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Put the parts into the superblock.")] = False,
    filename: Annotated[
        str | None,
        typer.Option(
            "--filename", metavar="FILE", help="Write one complete file, for apply-offline, and nothing else."
        ),
    ] = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", "-n", help="Do nothing if the delta exists.")
    ] = False,
    disable_bsdiff: Annotated[bool, typer.Option("--disable-bsdiff", help="Do not use bsdiff.")] = False,
    min_fallback_size: Annotated[
        int,
        typer.Option(
            "--min-fallback-size",
            min=0,
            metavar="MB",
            help="Leave larger new files out: clients fetch them as they do without a delta. 0: pack all.",
        ),
    ] = 4,
    max_bsdiff_size: Annotated[
        int,
        typer.Option(
            "--max-bsdiff-size",
            min=0,
            metavar="MB",
            help="Do not compare an old and a new file that together are larger.",
        ),
    ] = 128,
    max_chunk_size: Annotated[
        int, typer.Option("--max-chunk-size", min=1, metavar="MB", help="Size of a part before it is compressed.")
    ] = 32,
    gpg_key: flags.GpgKeys = None,
    sign: flags.SignFiles = None,
    sign_command: flags.SignCommands = None,
    form: flags.Form = Format.TEXT,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Make a static delta, an update in a few files.

    It prints what clients fetch with the delta and what they would fetch without. The summary, if there is one, is updated to
    list the delta; without a key one that is signed stays as it is. --filename leaves the repository as it is.
    """
    if target is not None and to is not None:
        raise UsageError("TO and --to exclude each other")
    revision = to if target is None else target
    if revision is None:
        raise UsageError("give the commit that clients update to")
    if empty and source is not None:
        raise UsageError("--empty and --from exclude each other")
    if filename is not None:
        # a file with all that clients lack is what --min-fallback-size=0 asks for
        names = (
            "if_not_exists",
            "gpg_key",
            "sign",
            "sign_command",
            *(["min_fallback_size"] if min_fallback_size else []),
        )
        flags.refuse(
            "and --filename exclude each other: the file is complete, and the repository stays as it is", *names
        )
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
        signers = flags.signers_of(gpg_key, sign, sign_command)
        written = make_delta(repo, revision, source, options, reporter, empty=empty, signers=signers, filename=filename)
        reporter.result("unchanged" if written is None else "done", delta=_document(written))
    if form is Format.JSON:
        typer.echo(json.dumps(_document(written), indent=2))
    else:
        typer.echo("No change: the delta exists." if written is None else delta_line(written))


def delta_line(written: WrittenDelta) -> str:
    """From where to where it leads, and what it saves."""
    source = "nothing" if written.source is None else written.source[:12]
    files = 1 + (0 if written.inline else len(written.parts)) + written.fallbacks
    line = f"delta from {source} to {written.target[:12]}: {size(written.fetched_bytes)} in {counted(files, 'file')}"
    if written.loose_bytes is None:
        return line
    objects = 1 + written.metadata + written.files + written.fallbacks
    return f"{line}; without the delta {size(written.loose_bytes)} in {counted(objects, 'file')}"


def _document(written: WrittenDelta | None) -> dict[str, Any]:
    return (
        {"written": False}
        if written is None
        else {"written": True, "fetched_bytes": written.fetched_bytes, **plain(written)}
    )
