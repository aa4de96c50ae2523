"""The command line: the only part that sees argv, the environment, stdout and exit codes."""

from __future__ import annotations

import sys

from compose.bindings import require_bindings
from compose.cli.ending import describe
from compose.errors import UsageError


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
