"""Parallel gzip (RFC 1952): all cores compress, whether there are many layers or only one.

A stream is cut into pieces that are deflated independently, in threads, as the codec releases the interpreter's lock.
libdeflate (compose.ostree.deflate) compresses as well as the zlib of ostree-ext in less than half the time; it needs a whole
piece in memory, so pieces are small. Where they are cut depends only on the stream: the bytes are the same for any number of
threads and any kind of repository.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from compose.ostree.deflate import END, Deflater

_PIECE = 4 << 20
"""Bytes. With 8 MB the result is no smaller; with 1 MB it is a thousandth larger."""
_AHEAD = 2
"""Pieces queued per thread, so that none waits."""
MEMORY = (2 * _AHEAD + 4) * _PIECE
"""Bytes per thread: its pieces and their compressed forms, its working memory, and a piece that is being filled."""
# method deflate, no flags, no time, no extra flags, unknown OS
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


class Stopped(Exception):
    """The packer was stopped; nobody waits for the result any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """digest, size: sha256 (64 hex digits) and bytes of the compressed stream. diffid: sha256 of the uncompressed one."""

    digest: str
    size: int
    diffid: str


class Packer:
    """A pool of threads that deflate for all callers of pack(), which may be threads too. level: None for the default."""

    def __init__(self, threads: int, level: int | None = None) -> None:
        self._level = level
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deflate")
        self._room = threading.Semaphore(_AHEAD * threads)
        self._local = threading.local()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._pool.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Make every pack() raise Stopped when its stream yields the next bytes."""
        self._stopped.set()

    def pack(self, stream: Iterable[bytes], write: Callable[[bytes], None]) -> Packed:
        """Gzip a stream, calling `write` with the output in order. Raises what either raises, and Stopped."""
        plain, packed = hashlib.sha256(), hashlib.sha256()
        crc = size = written = 0
        pending: deque[Future[bytes]] = deque()

        def put(data: bytes) -> None:
            nonlocal written
            packed.update(data)
            written += len(data)
            write(data)

        def take() -> None:
            try:
                put(pending[0].result())
            finally:
                pending.popleft()
                self._room.release()

        try:
            put(_HEADER)
            for piece in self._cut(stream):
                plain.update(piece)
                crc = zlib.crc32(piece, crc)
                size += len(piece)
                # a caller with pieces pending never blocks here but frees a slot itself, so callers cannot deadlock
                while not self._room.acquire(blocking=not pending):
                    take()
                pending.append(self._pool.submit(self._deflate, piece))
            while pending:
                take()
        finally:
            for future in pending:
                future.cancel()
                self._room.release()
        put(END + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"))
        return Packed(digest=packed.hexdigest(), size=written, diffid=plain.hexdigest())

    def diffid(self, stream: Iterable[bytes]) -> str:
        """The sha256 of a stream, which is not compressed. Raises what the stream raises, and Stopped."""
        plain = hashlib.sha256()
        for piece in self._cut(stream):
            plain.update(piece)
        return plain.hexdigest()

    def _cut(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        """The stream in pieces of _PIECE bytes; the last may be shorter."""
        buffer = bytearray()
        for data in stream:
            if self._stopped.is_set():
                raise Stopped
            buffer += data
            while len(buffer) >= _PIECE:
                yield bytes(memoryview(buffer)[:_PIECE])
                del buffer[:_PIECE]
        if buffer:
            yield bytes(buffer)

    def _deflate(self, piece: bytes) -> bytes:
        deflater: Deflater | None = getattr(self._local, "deflater", None)
        if deflater is None:
            deflater = self._local.deflater = Deflater(self._level)
        return deflater.piece(piece)
