"""Calls into librpm and libdnf5, each in a child process.

Both libraries keep global state, abort the process if a callback fails, and parse data from the network. A child costs
about 60 ms and turns a crash into an error that says what was being done; a signal ends it even in the middle of a
download.

The child inherits from the caller's environment only what a download needs (proxies, CA bundle): no DNF_VAR_*, no
~/.rpmmacros, no locale.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
from collections.abc import Callable
from typing import IO, Any, TypeVar

from compose import fs
from compose.errors import ComposeError
from compose.events import Reporter, Task
from compose.interpreter import python
from compose.limits import OUT_OF_MEMORY, signal_name
from compose.rpm.repofile import without_user
from compose.rpm.repos import AUTHORITIES

Request = TypeVar("Request")
Result = TypeVar("Result")

_PASSED = frozenset({*AUTHORITIES, "TMPDIR", "SOURCE_DATE_EPOCH"})
_PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"})
_STDERR_SHOWN = 20


def call(
    function: Callable[[Request, Reporter], Result],
    request: Request,
    reporter: Reporter,
    *,
    crash: Callable[[str, tuple[str, ...]], ComposeError],
) -> Result:
    """Run `function(request, reporter)` in a child process and return its result.

    function: at the top level of a module. request and the result must be picklable. Raises the ComposeError that
    function raises, and likewise MemoryError and an OSError of LIMITS or DISK_ERRORS; crash(exit status or signal,
    last lines of stderr) if the child died; RuntimeError with the child's traceback for any other exception (a bug).
    """
    with fs.memory_file("stderr") as stderr:
        process = subprocess.Popen(
            python(
                "from compose.rpm.served import serve; serve(*sys.argv[1:])", function.__module__, function.__qualname__
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(),
            # Ctrl-C reaches the caller alone, which then ends the child
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            try:
                # in one write: after each, this thread has to wait for the GIL
                process.stdin.write(pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL))
                process.stdin.close()
            except BrokenPipeError:
                pass  # it died at once, which is reported below
            kind, value = _follow(process.stdout, reporter)
        finally:
            process.kill()
            status = process.wait()
            process.stdout.close()
        if kind == "result":
            return value  # type: ignore[no-any-return]
        if kind == "error":
            raise value
        if kind == "bug":
            raise RuntimeError(f"{function.__module__}.{function.__qualname__} failed in its child process:\n{value}")
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").splitlines()[-_STDERR_SHOWN:]
        error = crash(_cause(status), tuple(map(without_user, lines)))
        if status == -signal.SIGKILL:
            error.hint = OUT_OF_MEMORY
        raise error


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name in _PASSED or name.lower() in _PROXIES}
    return inherited | {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}


def _cause(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal_name(-status)


def _follow(stream: IO[bytes], reporter: Reporter) -> tuple[str, Any]:
    """Forward the child's reports until its result arrives, and return that; ("died", None) if none does."""
    tasks: dict[int, Task] = {}
    while True:
        try:
            kind, value = pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            return "died", None
        match kind:
            case "task":
                number, name, total, unit = value
                tasks[number] = reporter.task(name, total=total, unit=unit)
            case "advance":
                number, amount, detail = value
                tasks[number].advance(amount, detail=detail)
            case "close":
                number, failed = value
                tasks.pop(number).close(failed=failed)
            case "info":
                reporter.info(value)
            case "warn":
                reporter.warn(value)
            case _:
                return kind, value
