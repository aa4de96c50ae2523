"""`compose size`: the size of a commit, by package or directory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose import fs
from compose.cli import flags, markdown
from compose.cli.blame import describe
from compose.cli.ending import visible
from compose.cli.flags import ProgressStyle, ReportFormat
from compose.cli.sizes import counted, delta, parse_size
from compose.cli.treemap import page
from compose.errors import PolicyError, UsageError
from compose.sizes import size

if TYPE_CHECKING:
    from compose.pipeline.inspect import Weighed
    from compose.weight import Row, Share

_SHOWN_IN_ERROR = 10


class By(StrEnum):
    SOURCE = "source"
    DIRECTORY = "directory"


def command(
    revision: flags.Revision,
    repo: flags.CommitRepo,
    by: Annotated[
        By, typer.Option("--by", help="Group by package, scriptlet and step of the compose, or by directory.")
    ] = By.SOURCE,
    depth: Annotated[int, typer.Option("--depth", min=1, metavar="N", help="Depth of directories.")] = 2,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="REV", help="Commit to compare with; the largest differences come first."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=0, metavar="N", help="Number of rows; 0 for all.")] = 20,
    form: flags.ReportForm = ReportFormat.TEXT,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Fail if the files are larger than this: bytes, or 500M, 2G."),
    ] = None,
    max_growth: Annotated[
        str | None,
        typer.Option("--max-growth", metavar="SIZE", help="Fail if the files grew by more than this since --before."),
    ] = None,
    treemap: Annotated[
        str | None,
        typer.Option("--treemap", metavar="FILE", help="Write a treemap of all files: an HTML page."),
    ] = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Show the size of a commit, by package or directory.

    Counts bytes of files, and for an archive repository the download of a client that has nothing. Identical contents count
    once, for the first path. JSON has all rows.
    """
    from compose.pipeline.inspect import weigh_commit

    limits = {
        flag: parse_size(flag, text)
        for flag, text in (("--max-size", max_size), ("--max-growth", max_growth))
        if text is not None
    }
    if max_growth is not None and before is None:
        raise UsageError("--max-growth needs --before")
    if by is not By.DIRECTORY:
        flags.refuse("needs --by=directory", "depth")
    if treemap is not None:
        fs.check_place(treemap)
    with flags.reporter_of(progress, progress_fd) as reporter:
        found = weigh_commit(repo, revision, reporter, before=before, depth=depth if by is By.DIRECTORY else None)
        reporter.leave()
        if treemap is not None:
            _write_treemap(treemap, revision, found)
        differing = [row for row in found.rows if row.before != row.now]
        shown = differing[: top or None]
        match form:
            case ReportFormat.JSON:
                typer.echo(json.dumps(_document(found), indent=2))
            case ReportFormat.MARKDOWN:
                typer.echo("\n".join(_markdown(revision, found, shown)))
            case ReportFormat.TEXT:
                for line in _text(found, shown, len(differing) - len(shown)):
                    typer.echo(visible(line))
        _check(revision, found, limits)


def _write_treemap(path: str, revision: str, found: Weighed) -> None:
    """Raises StorageError."""
    text = page(f"Size of {revision}", _total(found), found.files, _name)
    fs.atomic_write(path, text.encode())


def _check(revision: str, found: Weighed, limits: dict[str, int]) -> None:
    """Raise PolicyError if a size exceeds its limit."""
    old_size = found.before.size if found.before is not None else 0
    for flag, verb, count in (
        ("--max-size", "has", found.now.size),
        ("--max-growth", "grew by", found.now.size - old_size),
    ):
        if flag in limits and count > limits[flag]:
            raise PolicyError(
                f"{revision} {verb} {size(count)}, {size(count - limits[flag])} more than {flag} allows",
                details=[f"{_bytes(each)} {_name(each.name)}" for each in found.rows[:_SHOWN_IN_ERROR]],
                hint="leave something out (exclude-packages, recommends: false, remove-files), or raise the limit",
            )


def _name(name: str) -> str:
    return name if name.startswith(("/", "package ", "scriptlets of ")) else describe(name)


def _bytes(row: Row) -> str:
    return f"{size(row.now.size):>10}" if row.before is None else f"{delta(row.now.size - row.before.size):>10}"


def _total(found: Weighed) -> str:
    download = f", {size(found.now.stored)} to download" if found.archive else ""
    grown = "" if found.before is None else f" ({delta(found.now.size - found.before.size)})"
    return f"{size(found.now.size)}{grown} in {_files(found.now)}{download}"


def _text(found: Weighed, shown: Sequence[Row], rest: int) -> Iterator[str]:
    """rest: number of rows not shown."""
    yield _total(found)
    for row in shown:
        share = f"{100 * row.now.size / found.now.size:5.1f} %" if found.now.size else ""
        yield f"{_bytes(row)}  {share}  {_name(row.name)} ({_files(row.now)})"
    if rest:
        yield f"and {rest} more; --top=0 shows them"


def _files(share: Share) -> str:
    return counted(share.objects, "file")


def _markdown(revision: str, found: Weighed, shown: Sequence[Row]) -> Iterator[str]:
    yield f"## Size of {markdown.code(revision)}"
    yield ""
    yield f"{_total(found)}."
    yield ""
    head = ("", "size", "files") if found.before is None else ("", "size", "difference", "files")
    yield from markdown.table(
        head,
        [
            (
                markdown.code(_name(row.name)),
                size(row.now.size),
                *((delta(row.now.size - row.before.size),) if row.before is not None else ()),
                str(row.now.objects),
            )
            for row in shown
        ],
    )


def _document(found: Weighed) -> dict[str, Any]:
    return {
        "total": _share(found.now, archive=found.archive),
        **({"before": _share(found.before, archive=found.archive)} if found.before is not None else {}),
        "rows": [
            {
                "name": row.name,
                **_share(row.now, archive=found.archive),
                **({"before": _share(row.before, archive=found.archive)} if row.before is not None else {}),
            }
            for row in found.rows
        ],
    }


def _share(share: Share, *, archive: bool) -> dict[str, int]:
    known = {"files": share.objects, "bytes": share.size}
    return known | {"bytes_to_download": share.stored} if archive else known
