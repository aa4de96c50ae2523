"""The child's side of compose.rpm.child: runs one function, and sends its reports and its result to the caller.

Every call waits for the imports of this module: keep them few.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import signal
import sys
import threading
from typing import BinaryIO

from compose.errors import ComposeError
from compose.events import Reporter, Task
from compose.limits import LIMITS

_PR_SET_PDEATHSIG = 1


class _Wire:
    """Sends messages to the caller. Thread-safe."""

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


def serve(module: str, function: str) -> None:
    """Run a function of a module on the request read from standard input."""
    # if the caller is killed, the child dies too
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    request = pickle.load(sys.stdin.buffer)
    # what libraries print on stdout must not mix with the messages
    wire = _Wire(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    try:
        result = getattr(importlib.import_module(module), function)(request, _RemoteReporter(wire))
    except Exception as error:
        if isinstance(error, ComposeError) or _is_of_machine(error):
            wire.send("error", error)
        else:
            import traceback

            wire.send("bug", traceback.format_exc())
    else:
        wire.send("result", result)
    # no teardown: the libraries' destructors do nothing useful on exit, and have crashed before
    os._exit(0)


def _is_of_machine(error: Exception) -> bool:
    """Whether a limit or the disk of the machine is to blame."""
    if not isinstance(error, OSError):
        return isinstance(error, MemoryError)
    # imported late: what serve() runs has imported it
    from compose.fs import DISK_ERRORS

    return error.errno in LIMITS | DISK_ERRORS
