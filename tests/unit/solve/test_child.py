from __future__ import annotations

import os

import pytest

from compose.cli.ending import limited
from compose.errors import FetchError, SolveError
from compose.events import Reporter, Task
from compose.limits import OUT_OF_MEMORY
from compose.rpm.child import call
from tests.support import childtasks


class Log(Reporter):
    def __init__(self):
        self.events = []

    def info(self, message):
        self.events.append(("info", message))

    def warn(self, message):
        self.events.append(("warn", message))

    def task(self, name, *, total=None, unit=""):
        self.events.append(("task", name, total, unit))
        log = self

        class Recorded(Task):
            def advance(self, amount=1, *, detail=""):
                log.events.append(("advance", amount, detail))

            def close(self, *, failed=False):
                log.events.append(("close", failed))

        return Recorded()


def died(how, output):
    return FetchError(how, details=output)


def run(function, request=None, reporter=None):
    return call(function, request, reporter or Reporter(), crash=died)


def test_result_events_and_a_clean_environment(monkeypatch):
    monkeypatch.setenv("DNF_VAR_X", "1")
    monkeypatch.setenv("http_proxy", "http://proxy.example.com")
    log = Log()
    result = run(childtasks.report, ("a", 1), log)
    assert result == {"request": ("a", 1), "home": "/nonexistent", "dnf": None, "proxy": True}
    assert log.events == [
        ("info", "begun"),
        ("task", "Work", 3, "things"),
        ("advance", 2, "first"),
        ("advance", 1, ""),
        ("close", False),
        ("warn", "odd"),
    ]


def test_what_libraries_print_does_no_harm():
    assert run(childtasks.print_and_return, "x" * 1_000_000) == "x" * 1_000_000


def test_our_errors_come_through_whole():
    with pytest.raises(SolveError) as caught:
        run(childtasks.refuse)
    assert (caught.value.message, caught.value.hint, caught.value.details) == ("no", "try", ("a", "b"))


def test_a_bug_is_not_taken_for_an_error_of_the_user():
    with pytest.raises(RuntimeError, match="KeyError: 'x'"):
        run(childtasks.bug, "x")


def test_a_limit_of_the_machine_is_not_a_bug():
    with pytest.raises(OSError, match="Too many open files") as caught:
        run(childtasks.run_out_of_files)
    assert limited(caught.value) is not None


def test_a_disk_that_fails_is_not_a_bug():
    with pytest.raises(OSError, match="Input/output error: '/srv/file'") as caught:
        run(childtasks.run_on_a_failing_disk)
    assert limited(caught.value) is not None


def test_the_kernel_ends_what_takes_too_much_memory():
    with pytest.raises(FetchError, match=r"^SIGKILL$") as caught:
        run(childtasks.run_out_of_memory)
    assert caught.value.hint == OUT_OF_MEMORY


def test_a_signal_without_a_name():
    with pytest.raises(FetchError, match=f"^signal {childtasks.NAMELESS}$"):
        run(childtasks.end_by_nameless_signal)


def test_a_crash_is_an_error_with_the_last_words():
    with pytest.raises(FetchError) as caught:
        run(childtasks.crash)
    assert caught.value.message == "SIGSEGV"
    assert caught.value.details[-1] == "last words"


def test_an_interrupted_caller_leaves_no_child():
    class Interrupting(Reporter):
        def info(self, message):
            self.child = int(message)
            raise KeyboardInterrupt

    reporter = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        run(childtasks.sleep, None, reporter)
    with pytest.raises(ProcessLookupError):
        os.kill(reporter.child, 0)
