"""`compose blame`: where a path of a commit comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli import flags
from compose.cli.ending import visible
from compose.cli.flags import Format
from compose.cli.sizes import counted

if TYPE_CHECKING:
    from compose.pipeline.inspect import Blame


def command(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Path in the commit; /etc/x means /usr/etc/x.")],
    ref: Annotated[str, typer.Option("--ref", metavar="REV", help="Ref or commit.")],
    repo: flags.ComposedRepo,
    form: flags.Form = Format.TEXT,
) -> None:
    """Show where a path of a commit comes from.

    A package, a scriptlet, a treefile script, or a step of the compose; then the programs that changed it, in order. For an
    initramfs, also shows whose files it contains.
    """
    from compose.pipeline.inspect import blame

    found = blame(repo, ref, path)
    if form is Format.JSON:
        runs = [
            {"by": each.owner, "phase": each.phase, "status": each.status, "seconds": each.seconds}
            for each in found.runs
        ]
        document = {"path": f"/{found.path}", "writer": found.writer, "place": found.place, "changed": runs}
        if found.holds:
            document["holds"] = [{"by": writer, "files": count} for writer, count in found.holds]
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(visible(f"/{found.path}: {_origin(found)}"))
    for each in found.runs:
        seconds = f"{each.seconds:.2f} s" + (f", status {each.status}" if each.status else "")
        typer.echo(f"  changed by {describe(f'{each.owner}:{each.phase}')} ({seconds})")
    for writer, count in found.holds:
        typer.echo(f"  holds {counted(count, 'file')} {f'of {describe(writer)}' if writer else 'not in the commit'}")


def _origin(found: Blame) -> str:
    place = f", requested at {found.place}" if found.place else ""
    return f"{describe(found.writer)}{place}"


def describe(writer: str) -> str:
    """Describe a writer of the tree (see tree.Entry) in words."""
    kind, _, rest = writer.partition(":")
    match kind:
        case "package":
            return f"package {rest}"
        case "scriptlet":
            # an epoch also contains a colon
            nevra, _, phase = rest.rpartition(":")
            return f"{phase} of {nevra}"
        case "treefile":
            return f"{rest} of the treefile"
        case "layer":
            return f"layer {rest}"
        case "rootfs" if rest:
            return "changed in the root directory after compose install"
        case "rootfs":
            return "the root directory that was committed (not made by compose install)"
        case "step":
            step, _, program = rest.partition(":")
            return (
                f"{program}, run by the compose ({step})"
                if program and program != step
                else f"the compose itself ({step})"
            )
        case _:
            return writer
