"""Flags shared by several commands, under rpm-ostree's names, and the conversion of their values."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import click
import typer
from click.core import ParameterSource

from compose import fs
from compose.cli.ending import Interrupted, exit_code_of, limited
from compose.cli.progress import PlainReporter
from compose.cli.reporter import Both, CommandReporter
from compose.cli.services import reporter_for
from compose.errors import ComposeError, UsageError

if TYPE_CHECKING:
    from compose.cli.jsonlines import JsonReporter
    from compose.ostree.signers import Signer

# enough for seconds until the year 5138; milliseconds have more
_MAX_DIGITS = 11

_OTHER_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")

_SETUP = "Environment"
_INPUT = "Packages"
_COMMIT = "Commit"
_RESULT = "Results"
_SIGNATURES = "Signatures"


class ProgressStyle(StrEnum):
    AUTO = "auto"
    TTY = "tty"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"


class ReportFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


class LintFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


class TreefileLintFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    CODEQUALITY = "codequality"


FOUND = 1
"""Exit code of a linter with errors, and of --check when something would change."""

UNCHANGED = 77
"""Exit code of --unchanged-exit-77."""

Treefile = Annotated[str, typer.Argument(metavar="TREEFILE", help="Treefile, YAML or JSON.", show_default=False)]

OptionalTreefile = Annotated[
    str | None,
    typer.Argument(metavar="TREEFILE", help="Treefile, YAML or JSON; none with --bundle.", show_default=False),
]

_FORMAT = typer.Option("--format", help="Output format.")
Form = Annotated[Format, _FORMAT]
ReportForm = Annotated[ReportFormat, _FORMAT]
LintForm = Annotated[LintFormat, _FORMAT]
TreefileLintForm = Annotated[TreefileLintFormat, _FORMAT]

Revision = Annotated[str, typer.Argument(metavar="REV", help="Ref or commit.", show_default=False)]
CommitRepo = Annotated[
    str, typer.Option("--repo", "-r", metavar="REPO", help="Repository with the commit.", show_default=False)
]
# for what needs the records of a compose, which stay there
ComposedRepo = Annotated[
    str, typer.Option("--repo", "-r", metavar="REPO", help="Repository it was composed into.", show_default=False)
]

Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="BASEARCH",
        help="RPM base architecture; this machine's by default.",
        rich_help_panel=_INPUT,
    ),
]

Repo = Annotated[
    str | None,
    typer.Option(
        "--repo", "-r", metavar="REPO", help="OSTree repository to commit to; a preview repository by default."
    ),
]
PreviousRepo = Annotated[
    str | None,
    typer.Option(
        "--repo", "-r", metavar="REPO", help="OSTree repository with the previous commit; the preview one by default."
    ),
]
LayerRepo = Annotated[
    str | None,
    typer.Option(
        "--layer-repo", metavar="REPO", help="Repository of ostree-layers; --repo by default.", rich_help_panel=_SETUP
    ),
]
# for commands without --repo
LayersFrom = Annotated[
    str | None,
    typer.Option("--layer-repo", metavar="REPO", help="Repository of ostree-layers.", rich_help_panel=_SETUP),
]
CacheDirectory = Annotated[
    str | None,
    typer.Option(
        "--cachedir",
        metavar="DIR",
        help="Cache shared by composes; ~/.cache/compose by default.",
        rich_help_panel=_SETUP,
    ),
]
SourceRoot = Annotated[
    str | None,
    typer.Option(
        "--source-root",
        metavar="PATH",
        help="Read the .repo files that dnf has in this root.",
        rich_help_panel=_SETUP,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", metavar="N", min=1, help="Cores to use; all by default.", rich_help_panel=_SETUP),
]
Progress = Annotated[
    ProgressStyle, typer.Option("--progress", help="Style of progress output.", rich_help_panel=_SETUP)
]
ProgressFd = Annotated[
    int | None,
    typer.Option(
        "--progress-fd",
        metavar="N",
        min=1,
        help="File descriptor for --progress=json; by default standard error, which then carries nothing else.",
        rich_help_panel=_SETUP,
    ),
]
CodeQualityFile = Annotated[
    str | None,
    typer.Option(
        "--write-codequality-to",
        metavar="FILE",
        help="Write warnings and errors as a GitLab code quality report.",
        rich_help_panel=_RESULT,
    ),
]
GpgKeys = Annotated[
    list[str] | None,
    typer.Option("--gpg-key", metavar="KEYID", help="Sign with this GnuPG key.", rich_help_panel=_SIGNATURES),
]
SignFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--sign",
        metavar="KIND=FILE",
        help="Sign with a key file: ed25519=FILE or spki=FILE.",
        rich_help_panel=_SIGNATURES,
    ),
]
SignCommands = Annotated[
    list[str] | None,
    typer.Option(
        "--sign-command",
        metavar="[KIND=]COMMAND",
        help="Sign with a program: data on stdin, detached signature on stdout; KIND is gpg (default), ed25519 or spki.",
        rich_help_panel=_SIGNATURES,
    ),
]
Proxy = Annotated[str | None, typer.Option("--proxy", metavar="URL", help="HTTP proxy.", rich_help_panel=_SETUP)]
CacheOnly = Annotated[
    bool, typer.Option("--cache-only", help="Do not refresh repository metadata.", rich_help_panel=_INPUT)
]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Do not use the network; fail if something is missing.", rich_help_panel=_INPUT),
]
Bundle = Annotated[
    str | None,
    typer.Option(
        "--bundle", metavar="FILE", help="Compose offline from a bundle made by compose fetch.", rich_help_panel=_INPUT
    ),
]
ForceNocache = Annotated[
    bool, typer.Option("--force-nocache", help="Compose even if nothing changed.", rich_help_panel=_INPUT)
]
Lockfile = Annotated[
    list[str] | None,
    typer.Option(
        "--lockfile", "--ex-lockfile", metavar="FILE", help="Use the builds in this lockfile.", rich_help_panel=_INPUT
    ),
]
LockfileStrict = Annotated[
    bool,
    typer.Option(
        "--lockfile-strict",
        "--ex-lockfile-strict",
        help="Use nothing but locked builds.",
        rich_help_panel=_INPUT,
    ),
]
WriteLockfile = Annotated[
    str | None,
    typer.Option(
        "--write-lockfile-to",
        "--ex-write-lockfile-to",
        metavar="FILE",
        help="Write a lockfile for rpm-ostree; see also compose lock.",
        rich_help_panel=_RESULT,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the packages and stop.", rich_help_panel=_INPUT)]
DownloadOnly = Annotated[
    bool, typer.Option("--download-only", help="Stop after packages are imported.", rich_help_panel=_INPUT)
]
DownloadOnlyRpms = Annotated[
    bool, typer.Option("--download-only-rpms", help="Stop after packages are downloaded.", rich_help_panel=_INPUT)
]
PrintOnly = Annotated[
    bool, typer.Option("--print-only", help="Print the flattened treefile and stop.", rich_help_panel=_INPUT)
]
DisableSelinux = Annotated[
    bool, typer.Option("--disable-selinux", help="Do not label, whatever the treefile says.", rich_help_panel=_INPUT)
]
AcceptNewIds = Annotated[
    bool,
    typer.Option("--accept-new-ids", help="Add new users and groups to the file of id-lock.", rich_help_panel=_INPUT),
]
MetadataStrings = Annotated[
    list[str] | None,
    typer.Option(
        "--add-metadata-string", metavar="KEY=VALUE", help="Add to the commit's metadata.", rich_help_panel=_COMMIT
    ),
]
MetadataFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--add-metadata-from-json",
        metavar="FILE",
        help="Add this JSON object to the commit's metadata.",
        rich_help_panel=_COMMIT,
    ),
]
Parent = Annotated[
    str | None, typer.Option("--parent", metavar="REV", help="Parent of the commit.", rich_help_panel=_COMMIT)
]
NoParent = Annotated[bool, typer.Option("--no-parent", help="Commit without a parent.", rich_help_panel=_COMMIT)]
PreviousCommit = Annotated[
    str | None,
    typer.Option(
        "--previous-commit",
        metavar="REV",
        help="Commit to compare with, instead of the ref's.",
        rich_help_panel=_COMMIT,
    ),
]
PreviousInputhash = Annotated[
    str | None,
    typer.Option("--previous-inputhash", metavar="HEX", help="Input hash to compare with.", rich_help_panel=_COMMIT),
]
PreviousVersion = Annotated[
    str | None,
    typer.Option(
        "--previous-version", metavar="VERSION", help="Base of automatic versioning.", rich_help_panel=_COMMIT
    ),
]
CommitIdFile = Annotated[
    str | None,
    typer.Option(
        "--write-commitid-to",
        metavar="FILE",
        help="Write the commit's checksum here, and do not move the ref.",
        rich_help_panel=_RESULT,
    ),
]
ResultFile = Annotated[
    str | None,
    typer.Option("--write-composejson-to", metavar="FILE", help="Write the result as JSON.", rich_help_panel=_RESULT),
]
Timings = Annotated[bool, typer.Option("--timings", help="Show where the time went.", rich_help_panel=_RESULT)]
TimingsFile = Annotated[
    str | None,
    typer.Option("--write-timings-to", metavar="FILE", help="Write the timings as JSON.", rich_help_panel=_RESULT),
]
TouchFile = Annotated[
    str | None,
    typer.Option(
        "--touch-if-changed", metavar="FILE", help="Touch this file if there is a new commit.", rich_help_panel=_RESULT
    ),
]
UnchangedExit77 = Annotated[
    bool,
    typer.Option("--unchanged-exit-77", help="Exit with 77 instead of 0 if nothing changed.", rich_help_panel=_RESULT),
]
AuthFile = Annotated[
    str | None,
    typer.Option("--authfile", metavar="FILE", help="Credentials for registries, as written by skopeo login."),
]
# accepted for callers of rpm-ostree and ignored: there is only one core, it works in the cachedir, and a root that is
# committed has its layers
UnifiedCore = Annotated[bool, typer.Option("--unified-core", "--ex-unified-core", hidden=True)]
Workdir = Annotated[str | None, typer.Option("--workdir", hidden=True)]
WorkdirTmpfs = Annotated[bool, typer.Option("--workdir-tmpfs", hidden=True)]
NoLayerRepo = Annotated[str | None, typer.Option("--layer-repo", hidden=True)]
Postprocess = Annotated[bool, typer.Option("--postprocess", hidden=True)]


def cachedir_or_default(given: str | None) -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return given or os.path.join(base, "compose")


def jobs_or_all(given: int | None) -> int:
    return given or len(os.sched_getaffinity(0))


def proxy_or_environment(given: str | None) -> str | None:
    """The proxy for all repositories; None to leave it to curl, which has one of the environment for each kind of URL.

    As in rpm-ostree, http_proxy alone is for https too. no_proxy counts whatever is returned.
    """
    if given is None and not any(map(os.environ.get, _OTHER_PROXIES)):
        return os.environ.get("http_proxy")
    return given


def key_values(given: list[str] | None, flag: str = "--add-metadata-string") -> tuple[tuple[str, str], ...]:
    """Split the KEY=VALUE arguments of a flag. Raises UsageError."""
    found = []
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag}={text}: expected KEY=VALUE")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{flag}={text}: not UTF-8") from error
        found.append((key, value))
    return tuple(found)


def refuse(reason: str, *names: str) -> None:
    """Raise UsageError if one of these options is on the command line, where it would have no effect. reason: what follows its
    name in the message. names: of the command's parameters."""
    context = click.get_current_context()
    for each in context.command.params:
        if each.name in names and context.get_parameter_source(each.name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{each.opts[0]} {reason}")


def signers_of(gpg_keys: list[str] | None, files: list[str] | None, commands: list[str] | None) -> tuple[Signer, ...]:
    """Signers for the values of GpgKeys, SignFiles and SignCommands. Raises UsageError, for a key or program that is not there
    too."""
    from compose.ostree.keys import read_keys
    from compose.ostree.signers import GpgKey, parse_command

    keys = [GpgKey(each) for each in gpg_keys or ()]
    programs = [parse_command(each) for each in commands or ()]
    for key in keys:
        key.check()
    for program in programs:
        program.check()
    return (*keys, *(each for path in files or () for each in read_keys(path)), *programs)


def source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH from the environment; None if unset. Raises UsageError."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        raise UsageError(f"SOURCE_DATE_EPOCH={text}: expected seconds since 1970")
    return int(text)


def events_only(style: ProgressStyle, descriptor: int | None) -> bool:
    """Does standard error carry JSON events and nothing else?"""
    return style is ProgressStyle.JSON and descriptor in (None, 2)


@contextlib.contextmanager
def reporter_of(
    style: ProgressStyle, descriptor: int | None = None, codequality: str | None = None
) -> Iterator[CommandReporter]:
    """The reporter for a style: bars on a terminal, lines elsewhere, or JSON events.

    codequality: file for a code quality report. If standard error carries JSON events, an error is reported only as an event.
    """
    if descriptor is not None and style is not ProgressStyle.JSON:
        raise UsageError("--progress-fd needs --progress=json")
    if codequality is not None:
        # fail now rather than after the compose
        fs.check_place(codequality)
    no_text = events_only(style, descriptor)
    with contextlib.ExitStack() as stack:
        events = _events(descriptor or 2) if style is ProgressStyle.JSON else None
        quality = None
        if codequality is not None:
            from compose.cli.codequality import CodeQuality

            quality = CodeQuality(codequality, os.environ)
        text = None if no_text else _text_reporter(style, stack)
        reporter = Both(*(each for each in (events, text, quality) if each is not None))
        try:
            yield reporter
        except (Exception, Interrupted) as raised:
            error = limited(raised) or raised
            reporter.failed(error)
            if quality is not None:
                quality.write()
            if no_text and isinstance(error, ComposeError | Interrupted):
                raise typer.Exit(exit_code_of(error)) from error
            if error is raised:
                raise
            raise error from raised
        if quality is not None:
            quality.write()
        if events is not None:
            events.done()


def _events(descriptor: int) -> JsonReporter:
    try:
        # descriptors opened by this process are not inheritable
        inherited = os.get_inheritable(descriptor)
    except (OSError, OverflowError):
        inherited = False
    if not inherited:
        raise UsageError(f"--progress-fd={descriptor} is not open", hint=f"open it: {descriptor}>events.jsonl")
    from compose.cli.jsonlines import JsonReporter

    # do not pass it on to programs of the compose
    os.set_inheritable(descriptor, descriptor <= 2)
    return JsonReporter(descriptor, click.get_current_context().command_path)


def _text_reporter(style: ProgressStyle, stack: contextlib.ExitStack) -> CommandReporter:
    if style is ProgressStyle.NONE:
        return CommandReporter()
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    if style is ProgressStyle.TTY or (style is not ProgressStyle.PLAIN and terminal):
        # importing rich would take a tenth of the time of --help
        from compose.cli.terminal import TerminalReporter

        return stack.enter_context(TerminalReporter())
    return reporter_for(os.environ) or PlainReporter()
