"""`compose unshare`: look at and change what parts of a compose made as an ordinary user."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from compose.errors import UsageError
from compose.sandbox.identity import become_root


def command(
    program: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND [ARG...]]", help="By default $SHELL.", show_default=False)
    ] = None,
) -> None:
    """Run a command in the user namespace of composes.

    There an ordinary user is root, and files have the owners that a commit has, so that roots made by install and rootfs can
    be inspected, changed and removed. For root it runs the command as it is.
    """
    become_root()
    argv = program or [os.environ.get("SHELL", "/bin/sh")]
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        raise UsageError(f"cannot run {argv[0]}: {error.strerror}") from error
