"""`compose diff`: what a client gets that goes from one commit to another."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compose.cli.flags import Format

if TYPE_CHECKING:
    from compose.diff import Attributes, CommitDiff, PathChange
    from compose.rpm.nevra import Nevra


class Aspect(StrEnum):
    CONTENT = "content"
    MODE = "mode"
    OWNER = "owner"
    LABEL = "label"
    CAPABILITY = "capability"
    XATTRS = "xattrs"
    KIND = "kind"


def command(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="Ref or commit.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another one.")],
    repo: Annotated[str, typer.Option("--repo", "-r", metavar="REPO", help="OSTree repository.")],
    form: Annotated[Format, typer.Option("--format", help="How to show it.")] = Format.TEXT,
    only: Annotated[list[Aspect] | None, typer.Option("--only", help="Paths of both in which this differs.")] = None,
) -> None:
    """Show what differs between two commits: packages, and each path with its content, mode, owner and label."""
    from compose.pipeline.inspect import diff_revisions

    found = diff_revisions(repo, before, after)
    paths = [each for each in found.paths if only is None or set(only) & set(each.aspects)]
    if form is Format.JSON:
        typer.echo(json.dumps(_document(found, paths), indent=2))
        return
    if found.versions[0] != found.versions[1]:
        typer.echo(f"version: {found.versions[0]} -> {found.versions[1]}")
    if only is None:
        for each in found.packages or ():
            sides = " -> ".join(side.evr for side in (each.before, each.after) if side is not None)
            named = each.after or each.before
            assert named is not None
            typer.echo(f"{each.change.name.lower()}: {named.name}.{named.arch} {sides}")
    for path in paths:
        typer.echo(line_of(path))


def line_of(change: PathChange) -> str:
    """A changed path in one line."""
    path = f"/{change.path}"
    if change.before is None or change.after is None:
        there = change.after or change.before
        assert there is not None
        return f"{'+' if change.before is None else '-'} {path} ({_described(there)})"
    values = [
        f"{aspect} {_value(change.before, aspect)} -> {_value(change.after, aspect)}" for aspect in change.aspects
    ]
    return f"~ {path} ({'; '.join(values)})"


def _described(each: Attributes) -> str:
    label = f" {each.label}" if each.label else ""
    size = f" {each.size} bytes" if each.kind == "file" else f" to {each.content}" if each.kind == "symlink" else ""
    return f"{each.kind} {each.mode:04o} {each.uid}:{each.gid}{label}{size}"


def _value(each: Attributes, aspect: str) -> str:
    match aspect:
        case "content":
            return each.content if each.kind == "symlink" else f"{each.content[:12]} ({each.size} bytes)"
        case "mode":
            return f"{each.mode:04o}"
        case "owner":
            return f"{each.uid}:{each.gid}"
        case "xattrs":
            return ",".join(f"{name}={value}" for name, value in each.xattrs) or "none"
        case _:
            return str(getattr(each, aspect)) or "none"


def _document(found: CommitDiff, paths: list[PathChange]) -> dict[str, Any]:
    def package(nevra: Nevra | None) -> str | None:
        return None if nevra is None else str(nevra)

    return {
        "before": {"commit": found.before, "version": found.versions[0]},
        "after": {"commit": found.after, "version": found.versions[1]},
        "packages": None
        if found.packages is None
        else [
            {"change": each.change.name.lower(), "before": package(each.before), "after": package(each.after)}
            for each in found.packages
        ],
        "paths": [
            {
                "path": f"/{each.path}",
                "changed": list(each.aspects),
                "before": None if each.before is None else dataclasses.asdict(each.before),
                "after": None if each.after is None else dataclasses.asdict(each.after),
            }
            for each in paths
        ],
    }
