"""Entry point: dispatch, error text, exit codes, signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

import compose
from compose.cli import blame, cache, diff, doctor, fetch, lint, lock, parts, plan, tree, treefile, verify, why
from compose.cli.ending import Interrupted, describe, exit_code_of
from compose.cli.services import only_our_commands
from compose.errors import ComposeError

app = typer.Typer(
    name="compose",
    help="Compose operating systems on a server: packages in, OSTree commit out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("tree")(tree.command)
app.command("install")(parts.install_command)
app.command("postprocess")(parts.postprocess_command)
app.command("commit")(parts.commit_command)
app.command("rootfs")(parts.rootfs_command)
app.command("fetch")(fetch.command)
app.command("verify")(verify.command)
app.command("lint")(lint.command)
app.command("diff")(diff.command)
app.command("blame")(blame.command)
app.command("plan")(plan.command)
app.command("why")(why.why_command)
app.command("why-not")(why.why_not_command)
app.command("doctor")(doctor.command)
app.add_typer(cache.app, name="cache")
app.add_typer(lock.app, name="lock")
app.add_typer(treefile.app, name="treefile")


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


@contextmanager
def _signals_raise() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        # a second signal must not break into the clean-up that the first one began
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    # who started this with nohup, or in the background of a script, wants it to go on
    minded = [
        each for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN
    ]
    before = {each: signal.signal(each, interrupt) for each in minded}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (see compose.errors; 128 + number after a signal)."""
    with only_our_commands(os.environ):
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        with _signals_raise():
            app(args=arguments, prog_name="compose", standalone_mode=True)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except (ComposeError, Interrupted) as error:
        print(describe(error), file=sys.stderr)
        return exit_code_of(error)
    except BrokenPipeError:
        # the reader of our output went away; nothing more can be said on it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0
