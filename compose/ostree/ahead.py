"""Files deflated ahead, before the checksums of their objects are known.

A checksum depends on owner, mode and label, which are known only after all scriptlets have run; a deflate stream depends on the
contents alone. Scriptlets run one after the other, so the other cores deflate meanwhile. Each process appends its streams to a
file of its own, its spool.
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
"""Free bytes on the disk per byte to deflate, below which nothing is deflated: scriptlets and objects need space too."""
_WORTHWHILE = 4 << 20
"""Bytes to deflate for which a process is started."""

File = tuple[str, int, str]
"""Path, size in bytes, and sha256 of the contents (64 hex digits), which the user of the stream must verify on the same
inode."""


class DeflateAhead:
    """A context manager that deflates files in the background. Its failures are ignored: a missing stream is made later.

    directory: private; must exist as long as the streams are used. level: of deflate, None for the default. processes: the most
    to start, if they fit into memory; none is started before there is work. known: sha256 digests (32 bytes) of contents not to
    deflate. spools: paths of the files that contain the streams. streams: those made so far, by sha256 (64 hex digits).
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
        """Deflate files, before the rest of those added earlier."""
        new = {
            sha256: (path, size, sha256)
            for path, size, sha256 in (files if self._processes else ())
            if size and sha256 not in self._taken and bytes.fromhex(sha256) not in self._known
        }
        wanted = sorted(new.values(), key=lambda file: file[1], reverse=True)
        total = sum(size for _, size, _ in wanted)
        if not wanted or (total < _WORTHWHILE and not self._workers):
            return
        disk = os.statvfs(self._directory)
        if disk.f_bavail * disk.f_frsize < _ROOM * total:
            return
        self._taken |= new.keys()
        self._files += wanted
        self._batches.add([size for _, size, _ in wanted])
        if not self._workers:
            # RuntimeError: a thread cannot be started
            with suppress(OSError, RuntimeError):
                self._begin(wanted[0][1])

    def finish(self) -> dict[str, Stream]:
        """Stop, and return all streams that were made, by sha256."""
        self._processes = 0
        self._batches.stop()
        for thread in self._threads:
            thread.join()
        return self.streams

    def _begin(self, largest: int) -> None:
        """Start processes. largest: size of the largest file in bytes. Raises OSError and RuntimeError."""
        processes = memory.fitting(self._processes, worker_memory(largest), "Deflating ahead", self._reporter)
        for number in range(processes):
            spool = os.path.join(self._directory, f"deflated-{number}")
            with open(spool, "xb"):
                # exists even if its process never makes a stream
                self.spools += (spool,)
            worker = Worker(serve_packer, (spool, self._level))
            self._workers.append(worker)
            thread = threading.Thread(target=self._drive, args=(number, worker))
            thread.start()
            self._threads.append(thread)

    def _drive(self, number: int, worker: Worker) -> None:
        # a process that was killed, perhaps for lack of memory, has left the streams it made before
        with suppress(ComposeError, OSError):
            for batch, answer in worker.work(self._batches, self._paths):
                for place, (start, size, inode) in zip(batch, answer, strict=True):
                    if size:
                        self.streams[self._files[place][2]] = (number, start, size, inode)

    def _paths(self, batch: range) -> list[str]:
        return [path for path, _, _ in self._files[batch.start : batch.stop]]
