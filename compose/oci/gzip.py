"""Gzip (RFC 1952) of many layers at once, on all cores, also when there is one layer only.

A stream is deflated in pieces, each on its own, so that threads can share them out: the codec releases the interpreter's
lock. libdeflate makes them as small as the zlib of ostree-ext in less than half the time (compose.ostree.deflate), and needs
a piece in memory as a whole, which pieces are small enough for. Where they are cut depends on nothing but the stream: any
number of threads gives the same bytes, from any kind of repository.
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
"""Bytes; of 8 MB the result is no smaller, of 1 MB it is by a thousandth larger."""
_AHEAD = 2
"""Pieces for each thread, so that none waits."""
MEMORY = (2 * _AHEAD + 4) * _PIECE
"""Bytes for each thread: its pieces and what they become, what it works on, and a piece that is being filled."""
# deflate, no name, no time, no extra flags; whatever system
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


class Stopped(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """digest: sha256 of what was written (64 hex digits). size: of that, bytes. diffid: sha256 of what it is made of."""

    digest: str
    size: int
    diffid: str


class Packer:
    """Threads that deflate for everybody who calls pack(), from threads of their own. level: None for the default."""

    def __init__(self, threads: int, level: int | None = None) -> None:
        self._level = level
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deflate")
        self._room = threading.Semaphore(_AHEAD * threads)
        self._mine = threading.local()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._pool.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Every pack() ends with Stopped at its next bytes."""
        self._stopped.set()

    def pack(self, stream: Iterable[bytes], write: Callable[[bytes], None]) -> Packed:
        """Gzip a stream; write takes the pieces in order. Raises what the two raise, and Stopped."""
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
                # one who has pieces under way gives room himself, so not all can wait for each other
                while not self._room.acquire(blocking=not pending):
                    take()
                pending.append(self._pool.submit(self._deflate, piece))
            while pending:
                take()
        finally:
            for each in pending:
                each.cancel()
                self._room.release()
        put(END + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"))
        return Packed(digest=packed.hexdigest(), size=written, diffid=plain.hexdigest())

    def _cut(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        """In pieces of the same size, but for the last."""
        filled = bytearray()
        for data in stream:
            if self._stopped.is_set():
                raise Stopped
            filled += data
            while len(filled) >= _PIECE:
                yield bytes(memoryview(filled)[:_PIECE])
                del filled[:_PIECE]
        if filled:
            yield bytes(filled)

    def _deflate(self, piece: bytes) -> bytes:
        deflater: Deflater | None = getattr(self._mine, "deflater", None)
        if deflater is None:
            deflater = self._mine.deflater = Deflater(self._level)
        return deflater.piece(piece)
