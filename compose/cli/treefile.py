"""`compose treefile`: show, check and format treefiles."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

import compose
from compose import fs
from compose.architecture import host_basearch
from compose.cli import flags
from compose.cli.flags import FOUND, Format, TreefileLintFormat
from compose.cli.github import GitHubReporter
from compose.cli.lint import Ignore, Strict, advise, faults_among, skipped_rules
from compose.cli.places import Place, faults_of, in_project
from compose.cli.services import reporter_for
from compose.errors import ComposeError, TreefileError
from compose.findings import Level, Result, Rule, to_codequality, to_sarif
from compose.pipeline.flat import flattened_treefile
from compose.treefile.lint import RULES, Finding, lint
from compose.treefile.load import flatten
from compose.treefile.origin import origins
from compose.treefile.rewrite import OLD_DEFAULTS, format_text, migrate_text
from compose.treefile.validate import schema

app = typer.Typer(help="Show, check and format treefiles.", no_args_is_help=True, rich_markup_mode=None)

_Arch = Annotated[str | None, typer.Option("--arch", metavar="BASEARCH", help="Architecture to load the treefile for.")]
_Check = Annotated[
    bool, typer.Option("--check", help="Write nothing; show what would change, and exit with 1 if anything would.")
]
_INVALID = Rule(
    id="invalid",
    level=Level.ERROR,
    summary="A fault because of which the treefile cannot be composed",
    advice="correct it as the message says",
)
_RULES = {**RULES, _INVALID.id: _INVALID}
_Files = Annotated[list[str], typer.Argument(metavar="TREEFILE...", help="Treefiles in YAML.", show_default=False)]


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of treefiles, for editors."""
    typer.echo(json.dumps(schema(), indent=2))


@app.command("show")
def show(
    treefile: flags.Treefile,
    origin: Annotated[bool, typer.Option("--origin", help="Show the file and line that set each value.")] = False,
    form: Annotated[Format, typer.Option("--format", help="Output format of --origin.")] = Format.TEXT,
    arch: _Arch = None,
) -> None:
    """Print the flattened treefile.

    All includes are merged and variables substituted, as by compose tree --print-only.
    """
    if not origin:
        typer.echo(flattened_treefile(treefile, basearch=arch), nl=False)
        return
    rows = origins(treefile, basearch=arch or host_basearch())
    if form is Format.JSON:
        found = [
            {
                "path": row.path,
                "value": row.value,
                "file": row.place.file,
                "line": row.place.line,
                "column": row.place.column,
            }
            for row in rows
        ]
        typer.echo(json.dumps(found, indent=2))
        return
    texts = [(f"{row.path}: {_one_line(row.value)}", str(row.place)) for row in rows]
    width = min(60, max((len(text) for text, _ in texts), default=0))
    for text, place in texts:
        typer.echo(f"{text:<{width}}  {place}")


@app.command("lint")
def lint_command(
    treefile: flags.Treefile,
    form: flags.TreefileLintForm = TreefileLintFormat.TEXT,
    strict: Strict = False,
    ignore: Ignore = None,
    source_root: flags.SourceRoot = None,
    arch: _Arch = None,
) -> None:
    """Report what is allowed but probably a mistake. Exits with 1 if there are errors.

    Exits with 2 if the treefile cannot be loaded: all faults are then in the output, too, as rule "invalid".
    """
    skipped = skipped_rules(ignore, RULES)
    try:
        found = lint(treefile, basearch=arch or host_basearch(), source_root=source_root)
    except ComposeError as error:
        reporter = reporter_for(os.environ)
        if reporter is not None:
            reporter.failed(error)
        if form is not TreefileLintFormat.TEXT:
            _print([_fault(message, place, treefile) for message, place in faults_of(error)], form)
        raise
    found = tuple(each for each in found if each.rule not in skipped)
    if form is TreefileLintFormat.TEXT:
        for each in found:
            typer.echo(f"{each.place}: {each.level}: {each.message} [{each.rule}]")
        advise(found, RULES)
        _annotate(found)
    else:
        _print([_result(each) for each in found], form)
    if faults_among(found, strict=strict):
        raise typer.Exit(FOUND)


@app.command("fmt")
def fmt(files: _Files, check: _Check = False) -> None:
    """Format treefiles, keeping comments and meaning."""
    _rewrite(files, format_text, check=check)


@app.command("migrate")
def migrate(
    treefile: Annotated[str, typer.Argument(metavar="TREEFILE", help="Treefile in YAML.", show_default=False)],
    edition: Annotated[
        bool, typer.Option(help="Convert to edition 2024, spelling out the old defaults it relied on.")
    ] = True,
    check: _Check = False,
    arch: _Arch = None,
) -> None:
    """Convert treefiles to the current spelling.

    Converts TREEFILE and everything it includes, keeping comments and meaning.
    """
    config, flattener = flatten(treefile, basearch=arch or host_basearch())
    effective = {key: config[key].value if key in config else old for key, old in OLD_DEFAULTS.items()}
    files = [file for file in flattener.files if file.endswith((".yaml", ".yml"))]

    def rewrite(text: str, path: str) -> str:
        new, undone = migrate_text(text, path, effective=effective if edition and path == treefile else None)
        for line in undone:
            typer.echo(line, err=True)
        return new

    _rewrite(files, rewrite, check=check)


def _rewrite(files: list[str], rewrite: Callable[[str, str], str], *, check: bool) -> None:
    # convert all of them before writing the first
    changed = []
    for path in files:
        try:
            with open(path, "rb") as file:
                before = file.read().decode()
                mode = os.fstat(file.fileno()).st_mode & 0o777
        except OSError as error:
            raise TreefileError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise TreefileError(f"{path}: not UTF-8") from error
        after = rewrite(before, path)
        if after != before:
            changed.append((path, before, after, mode))
    for path, before, after, mode in changed:
        if check:
            diff = difflib.unified_diff(before.splitlines(True), after.splitlines(True), path, path)
            ends = (each if each.endswith("\n") else f"{each}\n\\ No newline at end of file\n" for each in diff)
            typer.echo("".join(ends), nl=False)
        else:
            # write through a symlink, as it was read
            fs.atomic_write(os.path.realpath(path), after.encode(), mode)
            typer.echo(path)
    if check and changed:
        raise typer.Exit(FOUND)


def _one_line(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    first, newline, _ = text.partition("\n")
    return f"{first} ..." if newline else first


def _result(finding: Finding) -> Result:
    place = finding.place
    return Result(rule=finding.rule, message=finding.message, path=place.file, line=place.line, column=place.column)


def _fault(message: str, place: Place | None, treefile: str) -> Result:
    """A fault of a treefile that cannot be loaded. place: None if the message names none."""
    if place is None:
        return Result(rule=_INVALID.id, message=message, path=treefile)
    where = f"{place.file}:{place.line}" + (f":{place.column}" if place.column else "")
    told = message.removeprefix(f"{where}: ")
    return Result(rule=_INVALID.id, message=told, path=place.file, line=place.line, column=place.column or 1)


def _print(found: list[Result], form: TreefileLintFormat) -> None:
    """Print findings for programs."""
    match form:
        case TreefileLintFormat.SARIF:
            typer.echo(to_sarif(_RULES, found, version=compose.__version__), nl=False)
        case TreefileLintFormat.CODEQUALITY:
            rows = [(_RULES[each.rule].level, replace(each, path=in_project(each.path, os.environ))) for each in found]
            typer.echo(to_codequality(rows), nl=False)
        case _:
            typer.echo(json.dumps([_as_json(each) for each in found], indent=2))


def _as_json(found: Result) -> dict[str, object]:
    rule = _RULES[found.rule]
    return {
        "file": found.path,
        "line": found.line,
        "column": found.column,
        "rule": found.rule,
        "level": str(rule.level),
        "message": found.message,
        "advice": rule.advice,
    }


def _annotate(found: tuple[Finding, ...]) -> None:
    """Print findings as annotations on GitHub."""
    reporter = reporter_for(os.environ)
    if isinstance(reporter, GitHubReporter):
        for each in found:
            place = Place(file=each.place.file, line=max(1, each.place.line), column=each.place.column or None)
            level = "notice" if each.level is Level.NOTE else str(each.level)
            reporter.annotate(level, f"{each.message} [{each.rule}]", place)
