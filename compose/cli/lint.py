"""`compose lint`: check a commit, a root directory or a container image for what clients rely on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Protocol

import typer

import compose
from compose.cli import flags
from compose.cli.ending import visible
from compose.cli.flags import FOUND, LintFormat, ProgressStyle
from compose.errors import ComposeError, UsageError
from compose.findings import Level, Result, Rule, to_sarif

Strict = Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")]
Ignore = Annotated[list[str] | None, typer.Option("--ignore", metavar="RULE", help="Skip a rule.")]


class Finding(Protocol):
    """A finding of one of the linters."""

    @property
    def rule(self) -> str: ...
    @property
    def level(self) -> Level: ...


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="REV|ROOTFS|IMGREF", help="Ref or commit (with --repo), a root directory, or a container image."
        ),
    ],
    repo: Annotated[str | None, typer.Option("--repo", "-r", metavar="REPO", help="OSTree repository.")] = None,
    container: Annotated[
        bool, typer.Option("--container", help="The root directory or image is one that is not booted.")
    ] = False,
    form: flags.LintForm = LintFormat.TEXT,
    strict: Strict = False,
    ignore: Ignore = None,
    authfile: flags.AuthFile = None,
    cachedir: flags.CacheDirectory = None,
    progress: flags.Progress = ProgressStyle.AUTO,
    progress_fd: flags.ProgressFd = None,
) -> None:
    """Check a commit, a root or an image for problems.

    They are what clients would stumble over. Every compose applies the same rules at its end. Exits with 1 if there are errors.
    """
    from compose.lint.rules import RULES
    from compose.oci.reference import is_reference, parse_reference
    from compose.oci.skopeo import Access
    from compose.pipeline.inspect import lint_commit, lint_image, lint_rootfs

    skipped = skipped_rules(ignore, RULES)
    if repo is not None:
        flags.refuse("is for a root directory or an image: a commit says itself whether it boots", "container")
    with flags.reporter_of(progress, progress_fd) as reporter:
        where = flags.cachedir_or_default(cachedir)
        if repo is not None:
            found = lint_commit(repo, target, where, reporter)
        elif is_reference(target) and not os.path.isdir(target):
            access = Access(authfile=authfile)
            found = lint_image(parse_reference(target), where, reporter, access, bootable=not container)
        elif not os.path.isdir(target):
            raise UsageError(
                f"there is no directory {target}",
                hint="for a commit give --repo; name an image with its transport, such as containers-storage:NAME",
            )
        else:
            found = lint_rootfs(target, where, reporter, bootable=not container)
        found = tuple(each for each in found if each.rule not in skipped)
        if faults := faults_among(found, strict=strict):
            reporter.failed(ComposeError.of([*map(str, faults)], f"{target} has {len(faults)} faults"))
    match form:
        case LintFormat.SARIF:
            rows = [Result(rule=each.rule, message=f"{each.path} {each.message}", path=each.path[1:]) for each in found]
            typer.echo(to_sarif(RULES, rows, version=compose.__version__), nl=False)
        case LintFormat.JSON:
            rows_of = [
                {
                    "rule": each.rule,
                    "level": str(each.level),
                    "path": each.path,
                    "message": each.message,
                    "advice": RULES[each.rule].advice,
                }
                for each in found
            ]
            typer.echo(json.dumps(rows_of, indent=2))
        case LintFormat.TEXT:
            for each in found:
                typer.echo(visible(f"{each.level}: {each}"))
            if not flags.events_only(progress, progress_fd):
                advise(found, RULES)
    if faults:
        raise typer.Exit(FOUND)


def skipped_rules(given: list[str] | None, rules: Mapping[str, Rule]) -> frozenset[str]:
    """The rules of --ignore. Raises UsageError for one that does not exist."""
    for rule in given or ():
        if rule not in rules:
            raise UsageError(f"--ignore={rule}: there is no such rule; there are {', '.join(rules)}")
    return frozenset(given or ())


def advise(found: Iterable[Finding], rules: Mapping[str, Rule]) -> None:
    """Print what to do, once for each rule."""
    for rule in dict.fromkeys(each.rule for each in found if each.level is not Level.NOTE):
        typer.echo(f"hint: {rule}: {rules[rule].advice}", err=True)


def faults_among(found: Iterable[Finding], *, strict: bool) -> list[Finding]:
    """Those for which the command exits with FOUND: errors and, with strict, warnings."""
    counted = (Level.ERROR, Level.WARNING) if strict else (Level.ERROR,)
    return [each for each in found if each.level in counted]
