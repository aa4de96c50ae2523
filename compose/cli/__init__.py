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
