"""Deflate streams made before it is known which objects they will be in.

The checksum of an object needs owner, mode and label, which are known when all programs have run; its stream needs the bytes
alone. Programs run one after the other: the other cores deflate meanwhile. The streams lie one behind the other in a file
of each process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Container, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

from compose import memory
from compose.errors import ComposeError
from compose.events import Reporter
from compose.ostree.worker import Stream, serve_packer
from compose.ostree.workers import Batches, Worker, worker_memory

_ROOM = 3
"""Free bytes there must be for each byte to deflate: programs and objects need theirs."""
_WORTH_WHILE = 4 << 20
"""Bytes; fewer are deflated before a process has started for them."""

File = tuple[str, int, str]
"""Path, bytes, and sha256 of them (64 hex digits). The digest is for who uses the stream to check, of the same inode."""


class DeflateAhead:
    """Deflates files in the background as long as its context lasts. Nothing that goes wrong matters: who needs a stream
    that is not there makes it.

    directory: private, and there as long as streams are used. level: of deflate, None for the default. processes: at most,
    where there is memory for them, and none before there is something to do. known: digests (32 bytes) of payloads whose
    streams nobody needs. streams: those that are made, by sha256, in spools.
    """

    def __init__(
        self,
        directory: str,
        *,
        level: int | None,
        processes: int,
        known: Container[bytes] = frozenset(),
        reporter: Reporter,
    ) -> None:
        self._directory = directory
        self._level = level
        self._processes = processes
        self._known = known
        self._reporter = reporter
        self._taken: set[str] = set()
        self._files: list[File] = []
        self._batches = Batches(more=True)
        self.spools: tuple[str, ...] = ()
        self.streams: dict[str, Stream] = {}
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches.stop()
        for worker in self._workers:
            worker.kill()
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.close()

    def add(self, files: Iterable[File]) -> None:
        """Deflate these before what is left of those added earlier."""
        new = {
            sha256: (path, size, sha256)
            for path, size, sha256 in (files if self._processes else ())
            if size and sha256 not in self._taken and bytes.fromhex(sha256) not in self._known
        }
        wanted = sorted(new.values(), key=lambda file: file[1], reverse=True)
        total = sum(size for _, size, _ in wanted)
        if not wanted or (total < _WORTH_WHILE and not self._workers):
            return
        disk = os.statvfs(self._directory)
        if disk.f_bavail * disk.f_frsize < _ROOM * total:
            return
        self._taken |= new.keys()
        self._files += wanted
        self._batches.add([size for _, size, _ in wanted])
        if not self._workers:
            # RuntimeError: there may be no more threads
            with suppress(OSError, RuntimeError):
                self._begin(wanted[0][1])

    def finish(self) -> dict[str, Stream]:
        """Stop; all streams that were made."""
        self._processes = 0
        self._batches.stop()
        for thread in self._threads:
            thread.join()
        return self.streams

    def _begin(self, largest: int) -> None:
        """largest: of the files, bytes. Raises OSError, RuntimeError."""
        processes = memory.fitting(self._processes, worker_memory(largest), "Deflating ahead", self._reporter)
        for number in range(processes):
            spool = os.path.join(self._directory, f"deflated-{number}")
            with open(spool, "xb"):
                # there for who looks for streams, though the process may not come to make any
                self.spools += (spool,)
            worker = Worker(serve_packer, (spool, self._level))
            self._workers.append(worker)
            thread = threading.Thread(target=self._drive, args=(number, worker))
            thread.start()
            self._threads.append(thread)

    def _drive(self, number: int, worker: Worker) -> None:
        # a process that was killed, for want of memory say, has left what it did before
        with suppress(ComposeError):
            for batch, answer in worker.work(self._batches, self._message):
                for place, (start, size, inode) in zip(batch, answer, strict=True):
                    if size:
                        self.streams[self._files[place][2]] = (number, start, size, inode)

    def _message(self, batch: range) -> list[str]:
        return [path for path, _, _ in self._files[batch.start : batch.stop]]
