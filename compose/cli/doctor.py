"""`compose doctor`: check whether this machine can compose, and how to fix what is missing."""

from __future__ import annotations

import dataclasses
import json

import typer

from compose import doctor
from compose.cli import flags
from compose.cli.flags import FOUND, Format
from compose.doctor import Verdict

_MARKS = {Verdict.OK: "ok", Verdict.WORSE: "note", Verdict.MISSING: "MISSING"}


def command(
    cachedir: flags.CacheDirectory = None,
    form: flags.Form = Format.TEXT,
) -> None:
    """Check whether this machine can compose.

    Says how to fix what is missing. Exits with 0 if composes work here for the calling user, with 1 if not.
    """
    found = tuple(doctor.examine(flags.cachedir_or_default(cachedir)))
    if form is Format.JSON:
        rows = [dataclasses.asdict(each) for each in found]
        typer.echo(json.dumps({"works": doctor.works(found), "checks": rows}, indent=2))
    else:
        width = max(len(each.name) for each in found)
        for each in found:
            typer.echo(f"{_MARKS[each.verdict]:8}{each.name:{width}}  {each.found}")
            if each.mend:
                typer.echo(f"{'':8}{'':{width}}  -> {each.mend}")
        typer.echo("composes work here" if doctor.works(found) else "composes do not work here")
    if not doctor.works(found):
        raise typer.Exit(FOUND)
