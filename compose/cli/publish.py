"""`compose publish`: publish commits to the repository that clients pull."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli import flags
from compose.cli.delta import delta_line
from compose.cli.flags import Format, ProgressStyle
from compose.cli.sizes import counted
from compose.errors import UsageError
from compose.sizes import size

if TYPE_CHECKING:
    from compose.ostree.prune import Doomed, Retention
    from compose.publish.model import Move, Published, PublishedDelta, Request

_DAY = 86400
_PRUNE = "Pruning"


def command(
    wanted: Annotated[
        list[str],
        typer.Argument(
            metavar="REF...", help="Refs to publish; NAME=REV publishes any commit as NAME.", show_default=False
        ),
    ],
    repo: Annotated[
        str, typer.Option("--repo", "-r", metavar="REPO", help="Repository with the commits.", show_default=False)
    ],
    to: Annotated[str, typer.Option("--to", metavar="REPO", help="Repository that clients pull.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Publish a single REF under this name.")
    ] = None,
    depth: Annotated[
        int, typer.Option("--depth", metavar="N", min=-1, help="Copy N earlier commits too; -1 for all.")
    ] = 0,
    deltas: Annotated[
        int,
        typer.Option("--deltas", metavar="N", min=0, help="Make static deltas from the last N commits of each REF."),
    ] = 0,
    gpg_key: flags.GpgKeys = None,
    sign: flags.SignFiles = None,
    sign_command: flags.SignCommands = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", metavar="N", min=1, help="Prune, keeping N commits of each REF.", rich_help_panel=_PRUNE
        ),
    ] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(
            "--keep-days",
            metavar="N",
            min=0,
            help="Prune, keeping the commits of the last N days.",
            rich_help_panel=_PRUNE,
        ),
    ] = None,
    allow_downgrade: Annotated[
        bool, typer.Option("--allow-downgrade", help="Allow a commit older than the published one.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    form: flags.Form = Format.TEXT,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Publish commits for clients to pull.

    Copies and verifies objects, signs, and makes deltas; then moves all refs together with the summary. If interrupted,
    clients see what they saw before, and the same command resumes. --keep and --keep-days prune what is no longer reachable
    from a ref; refs that are not given keep their whole history.
    """
    from compose.publish.model import PublishOptions
    from compose.publish.publish import publish

    options = PublishOptions(
        source=repo,
        target=to,
        requests=_requests(wanted, name),
        signers=flags.signers_of(gpg_key, sign, sign_command),
        depth=depth,
        deltas=deltas,
        retention=_retention(keep, keep_days),
        allow_downgrade=allow_downgrade,
        dry_run=dry_run,
        jobs=flags.jobs_or_all(jobs),
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        done = publish(options, reporter)
        reporter.result("done", refs=_commits(done))
    if form is Format.JSON:
        typer.echo(json.dumps(_document(done, dry_run=dry_run), indent=2))
        return
    for line in _text(done, dry_run=dry_run):
        typer.echo(line)


def _requests(wanted: list[str], name: str | None) -> tuple[Request, ...]:
    from compose.publish.model import Request

    if name == "":
        raise UsageError("--as=: the name is empty", hint="give the ref that clients pull, or leave --as out")
    if name is not None and len(wanted) != 1:
        raise UsageError(f"--as={name} names a single REF", hint="give NAME=REV for each")
    found = []
    for text in wanted:
        given, equals, revision = text.partition("=")
        if equals and name is not None:
            raise UsageError(f"{text} and --as={name} give two names", hint="give one of them")
        found.append(Request(name=given if name is None else name, revision=revision if equals else text))
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise UsageError("a ref is given twice")
    return tuple(found)


def _retention(keep: int | None, days: int | None) -> Retention | None:
    from compose.ostree.prune import Retention

    if keep is None and days is None:
        return None
    return Retention(commits=keep, since=None if days is None else int(time.time()) - days * _DAY)


def _commits(done: Published) -> dict[str, str]:
    return {each.name: each.commit for each in done.moves}


def _text(done: Published, *, dry_run: bool) -> Iterator[str]:
    for move in done.moves:
        yield _line(move)
    copied, would = done.copied, "would be " if dry_run else ""
    objects = copied.commits + copied.metadata + copied.files
    yield f"{counted(objects, 'object')} {would}copied, {size(copied.size)} of files"
    for delta in done.deltas:
        yield _delta(delta)
    if done.signatures:
        yield f"{counted(done.signatures, 'signature')} {would}made, of commits and of the summary"
    if done.pruned is not None:
        yield _pruned(done.pruned, would)


def _line(move: Move) -> str:
    version = f" ({move.version})" if move.version else ""
    if move.before == move.commit:
        return f"{move.name}: {move.commit}{version}, unchanged"
    return f"{move.name}: {move.before or 'new'} -> {move.commit}{version}"


def _delta(delta: PublishedDelta) -> str:
    if delta.written is None:
        return f"delta from {delta.source[:12]} to {delta.target[:12]}: would be made"
    return delta_line(delta.written)


def _pruned(doomed: Doomed, would: str) -> str:
    counts = [counted(len(doomed.commits), "commit"), counted(len(doomed.objects), "other object")]
    if doomed.deltas:
        counts.append(counted(len(doomed.deltas), "static delta"))
    return f"{', '.join(counts)} {would}pruned, {size(doomed.size)}"


def _document(done: Published, *, dry_run: bool) -> dict[str, Any]:
    copied, pruned = done.copied, done.pruned
    return {
        "dry_run": dry_run,
        "refs": [
            {"name": each.name, "before": each.before, "commit": each.commit, "version": each.version or None}
            for each in done.moves
        ],
        "copied": {
            "commits": copied.commits,
            "metadata": copied.metadata,
            "files": copied.files,
            "bytes": copied.size,
        },
        "deltas": [
            {
                "from": each.source,
                "to": each.target,
                "fetched_bytes": each.written and each.written.fetched_bytes,
                "loose_bytes": each.written and each.written.loose_bytes,
            }
            for each in done.deltas
        ],
        "signatures": done.signatures,
        "pruned": None
        if pruned is None
        else {
            "commits": list(pruned.commits),
            "objects": len(pruned.objects),
            "bytes": pruned.size,
            "deltas": list(pruned.deltas),
        },
    }
