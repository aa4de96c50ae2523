"""Entry point: dispatch, error text, exit codes, signals."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated, Any, TextIO, cast

import click
import typer
from typer.core import TyperGroup

import compose
from compose import fs
from compose.cli.ending import Interrupted, describe, exit_code_of, limited
from compose.cli.services import only_our_commands
from compose.errors import ComposeError, UsageError

COMMANDS = {
    "tree": ("tree:command", "Compose a tree and commit it."),
    "serve": ("serve:command", "Serve a repository over HTTP."),
    "watch": ("watch:command", "Recompose whenever an input changes."),
    "install": ("parts:install_command", "Install packages into a root directory."),
    "postprocess": ("parts:postprocess_command", "Turn a root directory into a deployable one."),
    "commit": ("parts:commit_command", "Label a root directory and commit it."),
    "rootfs": ("parts:rootfs_command", "Compose a plain root for a container image."),
    "unshare": ("unshare:command", "Run a command in the user namespace of composes."),
    "extensions": ("extensions:command", "Fetch packages that clients may layer on a tree."),
    "container-encapsulate": ("encapsulate:command", "Convert a commit into a container image."),
    "image": ("image:command", "Compose a tree into a container image."),
    "build-chunked-oci": (
        "chunked:command",
        "Split a root or an image into package layers.",
    ),
    "image-index": ("imageindex:command", "Give images of several architectures one name."),
    "publish": ("publish:command", "Publish commits for clients to pull."),
    "fetch": ("fetch:command", "Fetch what a compose needs."),
    "verify": ("verify:command", "Rebuild a commit and compare."),
    "lint": ("lint:command", "Check a commit, a root or an image for problems."),
    "diff": ("diff:command", "Show what differs between two commits."),
    "delta": ("delta:command", "Make a static delta, an update in a few files."),
    "blame": ("blame:command", "Show where a path of a commit comes from."),
    "plan": ("plan:command", "Show what a compose would change."),
    "why": ("why:why_command", "Show why a package is in a compose, or in a commit."),
    "why-not": ("why:why_not_command", "Show why a package is not in a compose."),
    "size": ("size:command", "Show the size of a commit, by package or directory."),
    "sbom": ("account:sbom_command", "Write the bill of materials of a commit."),
    "provenance": ("account:provenance_command", "Write the provenance of a commit."),
    "doctor": ("doctor:command", "Check whether this machine can compose."),
    "cache": ("cache:app", "Inspect and clean the cachedir: show, gc, verify."),
    "lock": ("lock:app", "Lock the packages of a treefile."),
    "treefile": ("treefile:app", "Show, check and format treefiles."),
}
"""Where each command is defined, "MODULE:NAME", and the first sentence of its help."""

# the flags after another program's name are that program's
_SETTINGS = {"unshare": {"ignore_unknown_options": True, "allow_interspersed_args": False}}


class _Commands(TyperGroup):
    """Imports only the command that is called: importing all of them takes longer than an unchanged compose may."""

    def __init__(self, **settings: Any) -> None:
        named = {name: click.Command(name, help=text) for name, (_, text) in COMMANDS.items()}
        super().__init__(**{**settings, "commands": named})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        found = load(name) if name and command else None
        if found is not None and ctx.resilient_parsing:
            _complete_with_files(found)
        return name, found, rest


def load(name: str) -> click.Command:
    """Import one of COMMANDS."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(importlib.import_module(f"compose.cli.{module}"), attribute)
    holder = _typer()
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name, context_settings=_SETTINGS.get(name))(found)
    command = typer.main.get_group(holder).commands[name]
    _refuse_empty(command)
    return command


class Filled(click.types.StringParamType):
    """Text that must not be empty. An empty path, as of a script's unset variable, would be the current directory, or no flag
    at all."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "" and param is not None and not (ctx is not None and ctx.resilient_parsing):
            name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name.strip("[.]")
            raise UsageError(f"{name} is empty", hint="is the variable set that it is taken from?")
        return super().convert(value, param, ctx)


_PLACES = frozenset({"DIR", "FILE", "PATH", "REPO", "REV"})
"""Metavariables of options that name something that exists or is to be made."""


def _refuse_empty(command: click.Command) -> None:
    for parameter in command.params:
        wanted = parameter.metavar in _PLACES if isinstance(parameter, click.Option) else _is_single(parameter)
        if wanted and isinstance(parameter.type, click.types.StringParamType):
            parameter.type = Filled()
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _refuse_empty(each)


def _is_single(parameter: click.Parameter) -> bool:
    """Is this an argument that is something if it is given? Not the words of another program, or what is "" by default."""
    return parameter.required or (parameter.nargs == 1 and parameter.default is None)


def _complete_with_files(command: click.Command) -> None:
    """Let the shell complete values that are text as it does for other programs: with file names."""
    for parameter in command.params:
        if isinstance(parameter.type, click.types.StringParamType):
            parameter.type = click.Path()
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _complete_with_files(each)


# typer escapes the brackets of "[default: x]" for rich even if rich does not print the help
typer.core.HAS_RICH = False


def _typer(**settings: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **settings)


app = _typer(
    name="compose",
    cls=_Commands,
    help="Compose operating systems on a server: packages in, OSTree commit out.",
    no_args_is_help=True,
    # use a wider terminal up to this
    context_settings={"max_content_width": 120},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"compose {compose.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


_COMPLETION = "_COMPOSE_COMPLETE"
"""Environment variable by which shells ask for completions, as click has it: bash_source prints what to evaluate."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _signals_raise() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        # a second signal must not interrupt the clean-up that the first one started
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    # signals ignored at the start stay ignored, as for nohup or a background job of a script
    before = {
        number: signal.signal(number, interrupt)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _output_errors() -> Iterator[None]:
    try:
        with fs.storage_errors("to standard output"):
            yield
    except BrokenPipeError as error:
        # ends the command as the signal does, which Python ignores; click would exit with 1 for the exception
        raise Interrupted(signal.SIGPIPE) from error


class _CheckedOutput:
    """Standard output whose write errors are reported like other errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _output_errors():
            return self._stream.write(text)

    def flush(self) -> None:
        with _output_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Log:
    """Standard error, on which nothing depends: a reader that is gone or a full disk changes no exit code."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _output_checked() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, _CheckedOutput(sys.stdout)), cast(TextIO, _Log(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (see compose.errors; 128 + number after a signal)."""
    with only_our_commands(os.environ), _output_checked():
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        with _signals_raise():
            if instruction := os.environ.get(_COMPLETION):
                # typer's own has the words of the variable in another order than the script that it prints
                from click.shell_completion import shell_complete

                return shell_complete(typer.main.get_command(app), {}, "compose", _COMPLETION, instruction)
            app(args=arguments, prog_name="compose", standalone_mode=True)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except (ComposeError, Interrupted) as error:
        # who stops reading, such as head, wants to hear no more
        if not (isinstance(error, Interrupted) and error.number == signal.SIGPIPE):
            print(describe(error), file=sys.stderr)
        return exit_code_of(error)
    except OSError as raised:
        known = limited(raised)
        if known is None:
            raise
        print(describe(known), file=sys.stderr)
        return exit_code_of(known)
    return 0
