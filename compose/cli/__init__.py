"""The command line: the only part that sees argv, the environment, stdout and exit codes."""

from __future__ import annotations

import gc
import os
import sys

from compose.bindings import require_bindings
from compose.cli.ending import describe
from compose.errors import UsageError


def program() -> int:
    """main() as what a process is for; returns the exit code.

    Modules, and millions of small values without cycles: looking for garbage in them took a tenth of a compose's time, and
    once more at its end.
    """
    _open_streams()
    if sys.getfilesystemencoding() != "utf-8":
        # names of files in trees are UTF-8
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    gc.set_threshold(100_000)
    try:
        return main()
    finally:
        gc.freeze()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                # it was told, or there is nowhere to tell it: the interpreter would try once more, and end with status 120
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_streams() -> None:
    """Give what the caller closed (`2>&-`) a place, or the next file that is opened is taken for it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # the lowest number that is free, which is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line (sys.argv's by default); returns the exit code."""
    try:
        # which says what is missing itself
        if (sys.argv[1:] if arguments is None else arguments)[:1] != ["doctor"]:
            require_bindings()
    except UsageError as error:
        print(describe(error), file=sys.stderr)
        return error.exit_code
    # only now: the stages import the bindings
    from compose.cli.app import main as run

    return run(arguments)
