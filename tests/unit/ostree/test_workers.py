"""Worker processes that end too early, and workers that outlive their parent."""

from __future__ import annotations

import functools
import marshal
import os
import subprocess
import threading
from collections.abc import Callable

import pytest

from compose.cli.ending import limited
from compose.errors import RepositoryError
from compose.interpreter import python
from compose.ostree.workers import Worker, share_out
from tests.support import childtasks


def test_a_worker_that_dies_is_an_error_and_no_wait() -> None:
    taken: list[object] = []
    with pytest.raises(RepositoryError, match="a worker process was ended by SIGABRT"):
        share_out(os.abort, None, [1, 2], 2, lambda _: [], lambda *answer: taken.append(answer), RepositoryError)
    assert taken == []


def test_pipes_that_hold_a_page_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel makes them for a user who has many open already."""
    monkeypatch.setattr(subprocess, "Popen", functools.partial(subprocess.Popen, pipesize=1))
    taken: list[bytes] = []
    large = bytes(1 << 20)
    sharing = threading.Thread(
        target=share_out,
        args=(
            childtasks.echo,
            None,
            [1 << 30] * 5,
            2,
            lambda _: large,
            lambda _, answer: taken.append(answer),
            RepositoryError,
        ),
        daemon=True,
    )
    sharing.start()
    sharing.join(30)
    assert taken == [large] * 5


def test_a_worker_that_fails_shows_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RepositoryError, match="a worker process ended with status 1"):
        share_out(childtasks.answer_nothing, None, [1], 1, lambda _: [], lambda *_: None, RepositoryError)
    assert capfd.readouterr().err.endswith("NotImplementedError: []\n")


def test_a_worker_that_misses_a_file_shows_which(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RepositoryError, match="a worker process ended with status 1"):
        share_out(childtasks.miss_a_file, None, [1], 1, lambda _: [], lambda *_: None, RepositoryError)
    assert capfd.readouterr().err.endswith("No such file or directory: '/no/such/spool'\n")


def test_a_worker_that_gets_no_memory(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="Cannot allocate memory") as raised:
        share_out(childtasks.take_all_memory, None, [1], 1, lambda _: [], lambda *_: None, RepositoryError)
    assert limited(raised.value) is not None
    assert capfd.readouterr().err == ""


def test_a_worker_that_ends_by_a_signal_without_a_name() -> None:
    with pytest.raises(RepositoryError, match=f"a worker process was ended by signal {childtasks.NAMELESS}"):
        share_out(childtasks.end_by_nameless_signal, None, [1], 1, lambda _: [], lambda *_: None, RepositoryError)


@pytest.mark.parametrize("name", ["writer", "packer"])
def test_a_worker_whose_parent_was_interrupted_before_it_sent_anything_ends_silently(name: str) -> None:
    program = python(f"from compose.ostree.worker import serve_{name}; serve_{name}()")
    done = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_worker_whose_start_is_interrupted_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[Worker] = []

    def interrupt(worker: Worker, message: object) -> None:
        raise KeyboardInterrupt

    def kill(worker: Worker, real: Callable[[Worker], None] = Worker.kill) -> None:
        killed.append(worker)
        real(worker)

    monkeypatch.setattr(Worker, "_send", interrupt)
    monkeypatch.setattr(Worker, "kill", kill)
    with pytest.raises(KeyboardInterrupt):
        Worker(childtasks.end_by_nameless_signal, ())
    assert len(killed) == 1


def test_a_worker_whose_parent_was_killed_ends_silently() -> None:
    program = python("from compose.ostree.verity import serve_verity; serve_verity()")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.close()
        marshal.dump([], process.stdin)
        process.stdin.flush()
        assert process.stderr.read() == b""
        assert process.wait(10) == 1
