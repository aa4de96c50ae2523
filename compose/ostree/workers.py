"""Regular files shared out over all cores.

Processes and not threads: a third of the work on small files is Python's own. They are started, not forked, for the
compose has threads; they end when their input does, so none outlives a killed compose. The descriptor of the staging
directory's lock goes with them: no one takes the directory for a leftover while one of them still writes into it.
"""

from __future__ import annotations

import marshal
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from compose import fs
from compose.errors import RepositoryError, StorageError
from compose.ostree import worker

_BATCH_BYTES = 4 << 20
_BATCH_FILES = 256
_BATCHES_AHEAD = 2
"""Batches a worker has at once, so that it never waits for its parent."""

Job = tuple[str, int, int, str]
"""Path of a regular file; its size, bytes; place of its attributes in the worker's Setup; sha256 of its bytes, "" when not
known."""


class DamagedContentError(Exception):
    """The file at `path` has not the digest that its Content says."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def write_regular(
    jobs: Sequence[Job],
    setup: worker.Setup,
    staging_lock: int,
    processes: int,
    take: Callable[[range, list[worker.Written]], None],
    meanwhile: Callable[[], None],
) -> None:
    """Write files on `processes` cores. take(places in jobs, answers) is called from several threads, under one lock.

    meanwhile: the caller's own share of the work, done while the workers do theirs. Raises as write_contents() does.
    """
    batches = _batches(jobs)
    failures: list[BaseException] = []
    lock = threading.Lock()
    workers: list[_Worker] = []

    def drive(mine: _Worker) -> None:
        pending: list[range] = []
        try:
            while not failures:
                while len(pending) < _BATCHES_AHEAD:
                    with lock:
                        batch = next(batches, None)
                    if batch is None:
                        break
                    mine.send([(path, owner, digest) for path, _, owner, digest in jobs[batch.start : batch.stop]])
                    pending.append(batch)
                if not pending:
                    return
                answers = mine.receive(setup[2])
                with lock:
                    take(pending.pop(0), answers)
        except BaseException as error:
            failures.append(error)
            for each in workers:
                each.kill()

    threads: list[threading.Thread] = []
    try:
        for _ in range(min(max(1, processes), len(jobs))):
            workers.append(_Worker(setup, staging_lock))
        threads = [threading.Thread(target=drive, args=(each,)) for each in workers]
        for thread in threads:
            thread.start()
        meanwhile()
        for thread in threads:
            thread.join()
    finally:
        for each in workers:
            each.kill()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for each in workers:
            each.close()
    if failures:
        raise failures[0]


def _batches(jobs: Sequence[Job]) -> Iterator[range]:
    """In the order given, which is large files first: no core is left alone with one at the end."""
    first, size = 0, 0
    for place, job in enumerate(jobs):
        size += job[1]
        if size >= _BATCH_BYTES or place - first + 1 >= _BATCH_FILES:
            yield range(first, place + 1)
            first, size = place + 1, 0
    if first < len(jobs):
        yield range(first, len(jobs))


class _Worker:
    """A process running `compose.ostree.worker`."""

    _PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from compose.ostree.worker import serve; serve()"

    def __init__(self, setup: worker.Setup, lock: int) -> None:
        self._process = subprocess.Popen(
            # without the site module: sys.path is handed over as it is here
            [sys.executable, "-I", "-S", "-c", self._PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(lock,),
            # an interrupt from the terminal is for the compose, which then ends its workers
            process_group=0,
        )
        self.send(setup)

    def send(self, message: worker.Setup | worker.Batch) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # receive() says why
            marshal.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def receive(self, staging: str) -> list[worker.Written]:
        """Answer to the oldest batch sent and not answered. staging: named when the disk refuses."""
        assert self._process.stdout is not None
        try:
            answer: list[worker.Written] | worker.Failure = marshal.load(self._process.stdout)
        except EOFError:
            status = self._process.wait()
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise RepositoryError(f"a process writing objects {how}", hint="compose again") from None
        if isinstance(answer, tuple):
            raise _error_of(answer, staging)
        return answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Wait for the end; kill() comes first."""
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def _error_of(failure: worker.Failure, staging: str) -> Exception:
    kind, path, number, text = failure
    if kind == worker.WRITE:
        return fs.storage_error(staging, OSError(number, text))
    if kind == worker.READ:
        return StorageError(f"cannot read {path}: {text}")
    if kind == worker.DAMAGED:
        return DamagedContentError(path)
    if kind == worker.CHANGED:
        return RepositoryError(f"{path} changed while it was committed")
    return RepositoryError(f"{path} is not a regular file")
