"""What tests of compose.rpm.child and compose.ostree.workers run in a child: it imports them by name."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time

from compose.errors import SolveError
from compose.ostree import direct, worker


def report(request, reporter):
    reporter.info("begun")
    with reporter.task("Work", total=3, unit="things") as task:
        task.advance(2, detail="first")
        task.advance()
    reporter.warn("odd")
    return {
        "request": request,
        "home": os.environ["HOME"],
        "dnf": os.environ.get("DNF_VAR_X"),
        "proxy": "http_proxy" in os.environ,
    }


def print_and_return(request, reporter):
    # both ways a library may write: they must not get between the messages
    print("noise", flush=True)
    os.write(1, b"more noise")
    return request


def refuse(request, reporter):
    raise SolveError("no", hint="try", details=("a", "b"))


def bug(request, reporter):
    return {}[request]


def run_out_of_files(request, reporter):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def run_on_a_failing_disk(request, reporter):
    raise OSError(errno.EIO, os.strerror(errno.EIO), "/srv/file")


def run_out_of_memory(request, reporter):
    os.kill(os.getpid(), signal.SIGKILL)


def crash(request, reporter):
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


NAMELESS = signal.SIGRTMIN + 6
"""A real-time signal: only the first and the last of them are in signal.Signals."""


def end_by_nameless_signal(*_):
    os.kill(os.getpid(), NAMELESS)


def echo():
    worker.serve(lambda: lambda message: message)


def answer_nothing():
    def answer(message):
        raise NotImplementedError(message)

    worker.serve(lambda: answer)


def take_all_memory():
    worker.serve(lambda: direct.Buffer(1 << 60).read)


def miss_a_file():
    worker.serve(lambda: worker.Packer("/no/such/spool", None).pack_batch)


def sleep(request, reporter):
    reporter.info(str(os.getpid()))
    time.sleep(60)
