"""Deflate streams made before it is known which objects they will be in.

The checksum of an object needs owner, mode and label, which are known when all programs have run; its stream needs the bytes
alone. Programs run one after the other: the other cores deflate meanwhile. The streams lie one behind the other in a file
of each process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from compose.errors import ComposeError
from compose.ostree.worker import Stream, serve_packer
from compose.ostree.workers import Batches, Worker

_ROOM = 3
"""Free bytes there must be for each byte to deflate: programs and objects need theirs."""


class DeflateAhead:
    """Deflates files in the background as long as its context lasts. Nothing that goes wrong matters: who needs a stream
    that is not there makes it.

    files: path, bytes and sha256 (64 hex digits) of each. The digest is for who uses the stream to check, of the same inode.
    directory: private, and there as long as streams are used. level: of deflate, None for the default. streams: those that
    are made, by sha256, in spools.
    """

    def __init__(
        self, files: Sequence[tuple[str, int, str]], directory: str, *, level: int | None, processes: int
    ) -> None:
        self._files = sorted(files, key=lambda each: each[1], reverse=True)
        disk = os.statvfs(directory)
        size = sum(each[1] for each in files)
        if disk.f_bavail * disk.f_frsize < _ROOM * size:
            processes = 0
        self.spools = tuple(os.path.join(directory, f"deflated-{number}") for number in range(processes))
        self._level = level
        self._batches = Batches([size for _, size, _ in self._files])
        self.streams: dict[str, Stream] = {}
        self._workers: list[Worker] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for number, spool in enumerate(self.spools):
            worker = Worker(serve_packer, (spool, self._level))
            self._workers.append(worker)
            thread = threading.Thread(target=self._drive, args=(number, worker))
            self._threads.append(thread)
            thread.start()
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

    def finish(self) -> dict[str, Stream]:
        """Stop; all streams that were made."""
        self._batches.stop()
        for thread in self._threads:
            thread.join()
        return self.streams

    def _drive(self, number: int, worker: Worker) -> None:
        # a process that was killed, for want of memory say, has left what it did before
        with suppress(ComposeError):
            for batch, answer in worker.work(self._batches, self._message):
                for place, (start, size, inode) in zip(batch, answer, strict=True):
                    if size:
                        self.streams[self._files[place][2]] = (number, start, size, inode)

    def _message(self, batch: range) -> list[str]:
        return [path for path, _, _ in self._files[batch.start : batch.stop]]
