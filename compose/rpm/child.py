"""Calls into librpm and libdnf5 in a process of their own.

Both libraries keep global state, abort the process when a callback of theirs goes wrong, and parse what comes from the
network. A child costs about 60 ms and turns a crash into an error that names what was being done; a signal ends it
even in the middle of a download.

The child gets nothing of the caller's environment but what a download needs (proxies, CA bundle): no DNF_VAR_*, no
~/.rpmmacros, no locale.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from compose.errors import ComposeError
from compose.events import Reporter, Task

Request = TypeVar("Request")
Result = TypeVar("Result")

_PASSED = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "TMPDIR", "SOURCE_DATE_EPOCH"})
_PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"})
_STDERR_SHOWN = 20
_PR_SET_PDEATHSIG = 1


def call(
    function: Callable[[Request, Reporter], Result],
    request: Request,
    reporter: Reporter,
    *,
    crash: Callable[[str, tuple[str, ...]], ComposeError],
) -> Result:
    """`function(request, reporter)` run in a child; function is a module's, request and result can be pickled.

    Raises what function raises when that is a ComposeError; what crash(how it ended, last lines of its stderr) makes
    when the child died; RuntimeError with the child's traceback for any other exception (a bug).
    """
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-B", "-P", "-m", __name__, f"{function.__module__}:{function.__qualname__}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(),
            # Ctrl-C goes to the caller alone, who then ends the child
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            try:
                pickle.dump(request, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it died at once: told below
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
            raise RuntimeError(f"{function.__module__}.{function.__qualname__} failed in its process:\n{value}")
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").splitlines()[-_STDERR_SHOWN:]
        raise crash(_how_it_ended(status), tuple(lines))


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name in _PASSED or name.lower() in _PROXIES}
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return inherited | {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "PYTHONPATH": package}


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"


def _follow(stream: BinaryIO | Any, reporter: Reporter) -> tuple[str, Any]:
    """Hand the child's reports on until it gives its result; ("died", None) if it does not."""
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


class _Wire:
    """Messages to the caller; from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, kind: str, value: object) -> None:
        message = pickle.dumps((kind, value), protocol=pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._stream.write(message)
            self._stream.flush()


class _RemoteTask(Task):
    def __init__(self, wire: _Wire, number: int) -> None:
        self._wire = wire
        self._number = number

    def advance(self, amount: int = 1, *, detail: str = "") -> None:
        self._wire.send("advance", (self._number, amount, detail))

    def close(self, *, failed: bool = False) -> None:
        self._wire.send("close", (self._number, failed))


class _RemoteReporter(Reporter):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._tasks = 0

    def task(self, name: str, *, total: int | None = None, unit: str = "") -> Task:
        self._tasks += 1
        self._wire.send("task", (self._tasks, name, total, unit))
        return _RemoteTask(self._wire, self._tasks)

    def info(self, message: str) -> None:
        self._wire.send("info", message)

    def warn(self, message: str) -> None:
        self._wire.send("warn", message)


def _serve(target: str) -> None:
    # a caller that is killed takes its child along
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    request = pickle.load(sys.stdin.buffer)
    # whatever a library prints on stdout must not get between the messages
    wire = _Wire(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    try:
        module, _, function = target.partition(":")
        result = getattr(importlib.import_module(module), function)(request, _RemoteReporter(wire))
    except ComposeError as error:
        wire.send("error", error)
    except Exception:
        wire.send("bug", traceback.format_exc())
    else:
        wire.send("result", result)
    # no teardown: what the libraries' destructors do on the way out is of no use, and has crashed before
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
