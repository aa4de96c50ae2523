"""Work on regular files, shared out among worker processes on all cores.

Processes, because a third of the work on small files is in Python itself. They are spawned, not forked, because the compose has
threads. They end when their standard input does, so that none outlives a killed compose. Writers inherit the lock of the
staging directory, so that nobody takes it for a leftover while one of them still writes into it.
"""

from __future__ import annotations

import marshal
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from compose import fs
from compose.errors import RepositoryError, StorageError
from compose.interpreter import python
from compose.limits import OUT_OF_MEMORY, signal_name
from compose.ostree import hasher, verity, worker
from compose.ostree.deflate import PIECE, WHOLE_MAX

_BATCH_BYTES = 4 << 20
_BATCH_FILES = 256
_BATCHES_AHEAD = 2
"""Batches that a worker has at once, so that it never waits for its parent."""
_WORTH_ANOTHER = 32 << 20
"""Bytes to be read for which another process is started: one reads them in a tenth of a second."""
_MEMORY = 20 << 20
"""Bytes that a process needs, apart from the file it holds."""
_OPENING = 32 << 10
"""What it takes to open a file and to read its xattrs, as the number of bytes that are hashed meanwhile."""


class DamagedContentError(Exception):
    """The file at `path` does not have the digest that its Content names."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def worker_memory(largest: int) -> int:
    """The most bytes that a process needs which holds a file, and its deflated form. largest: size of the largest file."""
    return _MEMORY + 2 * min(WHOLE_MAX, largest)


def reader_memory() -> int:
    """The most bytes that a process needs which reads files in pieces."""
    return _MEMORY + 3 * PIECE


def write_regular(
    jobs: Sequence[tuple[int, worker.Job]],
    setup: worker.Setup,
    staging_lock: int,
    processes: int,
    take: Callable[[range, list[worker.Written]], None],
    meanwhile: Callable[[], None],
) -> None:
    """Write files as objects. jobs: each with the size of its file in bytes. staging_lock: descriptor that the processes
    inherit. processes: the most to start. take(places in jobs, answers): is called from several threads, under a lock.
    meanwhile: is called while the processes work. Raises as write_contents() does.
    """
    share_out(
        worker.serve_writer,
        setup,
        [size for size, _ in jobs],
        processes,
        lambda batch: [jobs[place][1] for place in batch],
        take,
        lambda failure: _error_of(failure, setup[2]),
        staging_lock,
        meanwhile=meanwhile,
    )


def measure_regular(
    jobs: Sequence[tuple[int, verity.Job]], processes: int, take: Callable[[range, list[bytes]], None]
) -> None:
    """Compute the fs-verity digests of files, 32 bytes each. Arguments as of write_regular()."""
    share_out(
        verity.serve_verity,
        None,
        [size for size, _ in jobs],
        min(processes, 1 + sum(size for size, _ in jobs) // _WORTH_ANOTHER),
        lambda batch: [jobs[place][1] for place in batch],
        take,
        # nothing is written
        lambda failure: _error_of(failure, ""),
    )


def hash_regular(
    files: Sequence[tuple[int, str]],
    setup: hasher.Setup,
    processes: int,
    take: Callable[[range, list[hasher.Hashed]], None],
) -> None:
    """Compute the sha256 of files, and read their xattrs. files: each with its size in bytes. setup: which xattrs. Other
    arguments as of write_regular().

    Raises OSError if a file cannot be read, StorageError if it is no regular file any more, RepositoryError if a worker dies.
    """
    costs = [size + _OPENING for size, _ in files]
    share_out(
        hasher.serve_hasher,
        setup,
        costs,
        min(processes, 1 + sum(costs) // _WORTH_ANOTHER),
        lambda batch: [files[place][1] for place in batch],
        take,
        _unreadable,
    )


def share_out(
    function: Callable[[], None],
    setup: object,
    sizes: Sequence[int],
    processes: int,
    message: Callable[[range], object],
    take: Callable[[range, Any], None],
    failed: Callable[[Any], Exception],
    *inherited: int,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Share work out among processes that each run a function, as Worker does.

    sizes: of each piece of work, in bytes. message(places in sizes): what a process is sent. take(places, answer): is called
    from several threads, under a lock. failed(answer): what to raise for an answer that is a tuple, which means a failure.
    Raises RepositoryError when a process dies, OSError when one reaches a limit of the machine.
    """
    batches = Batches(sizes)
    failures: list[BaseException] = []
    lock = threading.Lock()
    workers: list[Worker] = []

    def drive(mine: Worker) -> None:
        try:
            for batch, answer in mine.work(batches, message):
                if isinstance(answer, tuple):
                    raise failed(answer)
                with lock:
                    take(batch, answer)
        except BaseException as error:
            failures.append(error)
            batches.stop()
            for each in workers:
                each.kill()

    threads: list[threading.Thread] = []
    try:
        for _ in range(min(max(1, processes), len(sizes))):
            workers.append(Worker(function, setup, *inherited))
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


class Batches:
    """A queue of work for several threads, in the order given. A batch is one large file, or many small ones."""

    def __init__(self, sizes: Sequence[int] = (), *, more: bool = False) -> None:
        """sizes: of each file, in bytes. more: others will follow, until stop()."""
        self._changed = threading.Condition()
        self._rest = deque(_ranges(sizes))
        self._count = len(sizes)
        self._more = more

    def next(self, *, wait: bool = True) -> range | None:
        """The next places in sizes. None when no more follow; without `wait`, also when none is there yet."""
        with self._changed:
            while wait and self._more and not self._rest:
                self._changed.wait()
            return self._rest.popleft() if self._rest else None

    def add(self, sizes: Sequence[int]) -> None:
        """Add files, whose places follow those of the others. They are taken before what is left of those."""
        with self._changed:
            if self._more:
                self._rest.extendleft(reversed([*_ranges(sizes, self._count)]))
            self._count += len(sizes)
            self._changed.notify_all()

    def stop(self) -> None:
        """Drop what is left; nothing follows."""
        with self._changed:
            self._rest.clear()
            self._more = False
            self._changed.notify_all()


def _ranges(sizes: Sequence[int], place: int = 0) -> Iterator[range]:
    """place: that of the first of sizes."""
    first, total = place, 0
    for size in sizes:
        total += size
        place += 1
        if total >= _BATCH_BYTES or place - first >= _BATCH_FILES:
            yield range(first, place)
            first, total = place, 0
    if first < place:
        yield range(first, place)


class Worker:
    """A process that runs a function, and is sent `setup` first unless that is None. inherited: file descriptors."""

    _PROGRAM = "import importlib; getattr(importlib.import_module(sys.argv[1]), sys.argv[2])()"

    def __init__(self, function: Callable[[], None], setup: object = None, *inherited: int) -> None:
        self._process = subprocess.Popen(
            python(self._PROGRAM, function.__module__, function.__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=inherited,
            # an interrupt from the terminal is for the compose, which then ends its workers
            process_group=0,
        )
        try:
            if setup is not None:
                self._send(setup)
        except BaseException:
            # nobody else knows of it yet
            self.kill()
            self.close()
            raise

    def work(self, batches: Batches, message: Callable[[range], object]) -> Iterator[tuple[range, Any]]:
        """Take batches until there are no more; yields each with the process's answer to its message. Raises RepositoryError
        when the process dies, OSError when it reaches a limit of the machine."""
        pending: list[range] = []
        while True:
            while len(pending) < _BATCHES_AHEAD and (batch := batches.next(wait=not pending)) is not None:
                self._send(message(batch))
                pending.append(batch)
            if not pending:
                return
            yield pending.pop(0), self._receive()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # _receive() says why
            marshal.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def _receive(self) -> Any:
        """The answer to the oldest message that has none yet."""
        assert self._process.stdout is not None
        try:
            answer = marshal.load(self._process.stdout)
        except EOFError:
            status = self._process.wait()
            how = f"was ended by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
            hint = OUT_OF_MEMORY if status == -signal.SIGKILL else "run the same command again"
            raise RepositoryError(f"a worker process {how}", hint=hint) from None
        if isinstance(answer, tuple) and answer[0] == worker.LIMITED:
            raise OSError(*answer[2:])
        return answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Wait until it has ended; to be called after kill()."""
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def _unreadable(failure: worker.Failure) -> Exception:
    kind, path, number, text = failure
    return OSError(number, text, path) if kind == worker.READ else fs.changed(path)


def _error_of(failure: worker.Failure, staging: str) -> Exception:
    kind, path, number, text = failure
    if kind == worker.WRITE:
        return fs.storage_error(staging, OSError(number, text))
    if kind == worker.READ:
        return StorageError(f"cannot read {path}: {text}")
    if kind == worker.DAMAGED:
        return DamagedContentError(path)
    if kind == worker.CHANGED:
        return fs.changed(path)
    return RepositoryError(f"{path} is not a regular file")
