"""`compose verify`: rebuild a commit from its recorded inputs and compare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli import flags
from compose.cli.blame import describe
from compose.cli.diff import line_of
from compose.cli.flags import Format, ProgressStyle
from compose.cli.plain import plain
from compose.errors import MismatchError
from compose.pipeline.options import ComposeOptions

if TYPE_CHECKING:
    from compose.pipeline.verifying import Difference, Verification


def command(
    commit: Annotated[str, typer.Argument(metavar="COMMIT", help="Ref or commit.", show_default=False)],
    repo: flags.ComposedRepo,
    treefile: Annotated[
        str,
        typer.Argument(
            metavar="[TREEFILE]", help="Compose this treefile instead of the recorded one.", show_default=False
        ),
    ] = "",
    layer_repo: flags.LayerRepo = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", metavar="FILE", help="Take packages and layers from this bundle.")
    ] = None,
    cachedir: flags.CacheDirectory = None,
    jobs: flags.Jobs = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
    proxy: flags.Proxy = None,
    offline: flags.Offline = False,
    form: flags.Form = Format.TEXT,
) -> None:
    """Rebuild a commit and compare.

    Uses the treefile, lock and time recorded beside the commit. Exits with 8 if the result is another commit, and lists each
    differing path with its writer and the kind of difference.
    """
    from compose.pipeline.verifying import verify

    options = ComposeOptions(
        treefile=treefile,
        layer_repo=layer_repo,
        cachedir=flags.cachedir_or_default(cachedir),
        jobs=flags.jobs_or_all(jobs),
        proxy=flags.proxy_or_environment(proxy),
        cache_only=offline,
    )
    with flags.reporter_of(progress, progress_fd) as reporter:
        found = verify(repo, commit, options, reporter, bundle=bundle)
        reporter.leave()
        if form is Format.JSON:
            typer.echo(json.dumps(_document(found), indent=2, default=repr))
        else:
            typer.echo("".join(f"{line}\n" for line in _lines(found)), nl=False)
        if not found.equal:
            raise MismatchError(
                f"rebuilding {commit} gives another commit",
                hint="check which inputs differ, if any, and what wrote the differing paths",
            )


def _lines(found: Verification) -> list[str]:
    if found.equal:
        return [f"{found.commit}: reproduced"]
    lines = [f"{found.commit}: not reproduced, the rebuild is {found.rebuilt}"]
    lines += [f"input {each.kind} {each.name}: {each.before} -> {each.after}" for each in found.inputs]
    lines += [f"metadata {key}: {_short(before)} -> {_short(after)}" for key, before, after in found.metadata]
    for each in found.paths:
        lines.append(line_of(each.change) + (f" {each.kind}" if each.kind else ""))
        lines += [f"    written by {text}" for text in _writers(each)]
    if not found.paths:
        lines.append("the trees are identical")
    return lines


def _writers(found: Difference) -> list[str]:
    """The writer of a path and the programs that changed it, each once."""
    first = [describe(found.writer)] if found.writer else []
    return list(dict.fromkeys([*first, *(describe(f"{run.owner}:{run.phase}") for run in found.runs)]))


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) < 80 else f"{text[:76]} ..."


def _document(found: Verification) -> dict[str, Any]:
    return {
        "commit": found.commit,
        "rebuilt": found.rebuilt,
        "equal": found.equal,
        "inputs": plain(found.inputs),
        "metadata": [{"key": key, "before": before, "after": after} for key, before, after in found.metadata],
        "paths": [
            {
                "path": f"/{each.change.path}",
                "changed": list(each.change.aspects),
                "before": plain(each.change.before),
                "after": plain(each.change.after),
                "kind": None if each.kind is None else each.kind.name.lower(),
                "writer": each.writer,
                "runs": [f"{run.owner}:{run.phase}" for run in each.runs],
            }
            for each in found.paths
        ],
    }
