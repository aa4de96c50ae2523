"""The importer's worker processes: each takes one RPM at a time, until the compose ends or is interrupted.

They are processes because half of the work is Python's own, which threads would not share out, and they are not forked
because the compose has threads. They speak JSON, one line per request and per answer: [path, sha256]; [[paths of
blobs]] or [kind of error, message, hint, details]. A worker ends with its input, so none outlives a killed compose.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Self

from compose import fs
from compose.blobs import BlobStore
from compose.errors import ComposeError, PackageError, StorageError
from compose.importer.cache import ImportCache
from compose.importer.unpack import unpack_rpm
from compose.interpreter import python
from compose.limits import OUT_OF_MEMORY, signal_name

# Errors that a worker may answer with; any other exception is a bug.
_ERRORS: dict[str, type[ComposeError]] = {error.__name__: error for error in (PackageError, StorageError)}
# Finds our modules where this process does, whatever the directory and the environment.
_PROGRAM = "from compose.importer.pool import serve; serve(*sys.argv[1:])"

# How much of a worker's stderr is shown at most: bytes, lines.
_TAIL, _LINES = 16 << 10, 20


class ImportPool:
    """`count` worker processes, started when first needed and killed when the context is left. Thread-safe."""

    def __init__(self, count: int, cache: ImportCache) -> None:
        self._cache = cache
        # None stands for a worker that was not started yet
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._started: list[_Worker] = []
        self._closed = False
        self._lock = threading.Lock()
        for _ in range(count):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            for worker in self._started:
                worker.kill()

    def import_rpm(self, path: str, sha256: str) -> frozenset[str]:
        """Have a worker import an RPM into the cache, and wait for it.

        Returns the paths of those of its blobs that were in the store before. Raises as unpack_rpm() does.
        """
        worker = self._idle.get()
        try:
            worker = worker or self._start()
            return worker.import_rpm(path, sha256)
        finally:
            # one that died is replaced: it would fail for each further RPM, and any of them may be reported
            self._idle.put(worker if worker is not None and worker.is_alive() else None)

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise RuntimeError("the import is over")
            worker = _Worker(self._cache)
            self._started.append(worker)
            return worker


class _Worker:
    def __init__(self, cache: ImportCache) -> None:
        self._stderr: IO[bytes] = fs.memory_file("stderr")
        self._stderr_start = 0
        self._process = subprocess.Popen(
            python(_PROGRAM, cache.manifests, cache.blobs.root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # Ctrl-C reaches the compose alone, which then kills its workers
            process_group=0,
        )

    def import_rpm(self, path: str, sha256: str) -> frozenset[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stderr_start = self._stderr_size()
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([path, sha256]).encode() + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise self._death(path)
        answer = json.loads(line)
        if isinstance(answer[0], list):
            return frozenset(answer[0])
        kind, message, hint, details = answer
        if kind in _ERRORS:
            raise _ERRORS[kind](message, hint=hint, details=details or self._stderr_tail())
        raise RuntimeError(f"the importer failed on {path}:\n{message}")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _death(self, path: str) -> PackageError:
        status = self._process.wait()
        cause = f"was killed by {signal_name(-status)}" if status < 0 else f"exited with status {status}"
        hint = OUT_OF_MEMORY if status == -signal.SIGKILL else None
        name = os.path.basename(path)
        return PackageError(f"{name}: the process importing it {cause}", hint=hint, details=self._stderr_tail())

    def _stderr_tail(self) -> list[str]:
        """Return the last lines of stderr about the current RPM, in which librpm says what is wrong with a header."""
        tail = os.pread(self._stderr.fileno(), _TAIL, max(self._stderr_start, self._stderr_size() - _TAIL))
        return tail.decode(errors="replace").splitlines()[-_LINES:]

    def _stderr_size(self) -> int:
        return os.fstat(self._stderr.fileno()).st_size


def serve(manifests: str, blobs: str) -> None:
    """Main loop of a worker: import each RPM named on standard input, and answer on standard output."""
    open_cache = functools.cache(lambda: ImportCache(manifests, BlobStore(blobs)))
    for line in sys.stdin.buffer:
        path, sha256 = json.loads(line)
        sys.stdout.write(json.dumps(_answer(path, sha256, open_cache)) + "\n")
        sys.stdout.flush()


def _answer(path: str, sha256: str, open_cache: Callable[[], ImportCache]) -> list[Any]:
    try:
        cache = open_cache()
        manifest = unpack_rpm(path, sha256, cache.blobs)
        cache.store(manifest)
        blobs = {file.blob for file in manifest.files if file.blob is not None}
        return [[cache.blobs.path(blob) for blob in blobs if not cache.blobs.has_made(blob)]]
    except tuple(_ERRORS.values()) as error:
        return [type(error).__name__, error.message, error.hint, list(error.details)]
    except Exception:
        # imported here: most workers never need it
        import traceback

        return ["", traceback.format_exc(), None, []]
