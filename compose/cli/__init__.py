"""The command line: the only part that sees argv, the environment, stdout and exit codes."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys


def program() -> int:
    """Run main() as the entry point of a process; returns the exit code.

    The garbage collector runs rarely, and not at exit: a compose holds modules and millions of small values without cycles.
    Traversing them took a tenth of its time, plus once more at exit.
    """
    # Python's own handler prints a traceback, also while modules are imported and at exit
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _open_streams()
    if sys.getfilesystemencoding() != "utf-8":
        # file names in trees are UTF-8
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    if isinstance(sys.stdout, io.TextIOWrapper):
        # names that are not UTF-8 are printed as they are, in any locale
        sys.stdout.reconfigure(errors="surrogateescape")
    gc.set_threshold(100_000)
    try:
        return main()
    finally:
        gc.freeze()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                # reported already, or impossible to report; the interpreter would try again and exit with 120
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_streams() -> None:
    """Open /dev/null for standard streams that the caller closed (`2>&-`), or the next file opened would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # open() returns the lowest free number, which is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def main(arguments: list[str] | None = None) -> int:
    """Run a command line, by default sys.argv; returns the exit code."""
    # imported late, because until program() runs an interrupt prints a traceback
    from compose.bindings import require_bindings
    from compose.cli.ending import describe
    from compose.errors import UsageError

    try:
        # doctor reports missing bindings itself
        if (sys.argv[1:] if arguments is None else arguments)[:1] != ["doctor"]:
            require_bindings()
    except UsageError as error:
        print(describe(error), file=sys.stderr)
        return error.exit_code
    # imported late, because the stages import the bindings
    from compose.cli.app import main as run

    return run(arguments)
