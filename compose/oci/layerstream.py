"""Decompression of a layer in constant memory, verifying both of its digests on the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable
from typing import IO, Protocol, cast

import zstandard

from compose.errors import ImageError

_CHUNK = 1 << 18
_MAX_WINDOW = 128 << 20
"""Bytes; the window of zstd --ultra -22."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""After a byte 0x50 to 0x5f: the magic number of a skippable frame, which may begin a zstd stream (RFC 8878, 3.1.2)."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """1 to size bytes; none at the end."""


class LayerStream:
    """A layer, decompressed while it is read. Its first bytes tell the compression, as for every unpacker: media types are
    often wrong.

    source: the blob. digest, size: sha256 and bytes of the blob. diffid: sha256 of its uncompressed content (both 64 hex
    digits). advance: called with the number of bytes read from the blob. where: for messages. Raises ImageError.
    """

    def __init__(
        self, source: IO[bytes], *, digest: str, size: int, diffid: str, where: str, advance: Callable[[int], None]
    ) -> None:
        self._where = where
        self._diffid = diffid
        self._plain = hashlib.sha256()
        self._buffer = memoryview(b"")
        self._source = _Source(source, digest, size, where, advance)
        head = self._source.head(4)
        self._stream: _Readable
        if head.startswith(_GZIP):
            self._stream = gzip.GzipFile(fileobj=cast(IO[bytes], self._source), mode="rb")
        elif head == _ZSTD or (head[1:] == _SKIPPABLE and head[0] & 0xF0 == 0x50):
            self._stream = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
                cast(IO[bytes], self._source), read_size=_CHUNK, read_across_frames=True
            )
        else:
            self._stream = self._source

    def read(self, size: int) -> bytes:
        """Exactly size bytes; fewer only at the end."""
        if size <= len(self._buffer):
            data, self._buffer = bytes(self._buffer[:size]), self._buffer[size:]
            return data
        pieces = [bytes(self._buffer)]
        missing = size - len(self._buffer)
        while missing and self._fill():
            pieces.append(bytes(self._buffer[:missing]))
            self._buffer = self._buffer[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def finish(self) -> None:
        """Read the rest. Raises ImageError unless both digests match."""
        while self._fill():
            pass
        self._source.finish()
        if self._plain.hexdigest() != self._diffid:
            raise ImageError(f"{self._where}: is damaged: uncompressed, its digest is not sha256:{self._diffid}")

    def _fill(self) -> bool:
        """Replace the buffer, which is used up, with the next bytes. False at the end."""
        try:
            data = self._stream.read(_CHUNK)
        except (zlib.error, zstandard.ZstdError, EOFError, gzip.BadGzipFile) as error:
            raise ImageError(f"{self._where}: cannot be decompressed: {error}") from error
        self._plain.update(data)
        self._buffer = memoryview(data)
        return bool(data)


class _Source(io.RawIOBase):
    """The compressed blob, hashed while it is read."""

    def __init__(self, source: IO[bytes], digest: str, size: int, where: str, advance: Callable[[int], None]) -> None:
        self._file = source
        self._digest = digest
        self._missing = size
        self._where = where
        self._advance = advance
        self._hash = hashlib.sha256()
        self._head = b""

    def readable(self) -> bool:
        return True

    def head(self, size: int) -> bytes:
        """Peek at the first bytes, which read() returns again."""
        self._head = self._read(size)
        return self._head

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            size = _CHUNK
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._read(size)

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(min(size, _CHUNK))
        except OSError as error:
            # not an OSError, which gzip.BadGzipFile is too: that would blame the compression
            raise ImageError(f"{self._where}: cannot be read: {error.strerror or error}") from error
        self._hash.update(data)
        self._missing -= len(data)
        self._advance(len(data))
        return data

    def finish(self) -> None:
        while self._read(_CHUNK):
            pass
        if self._missing or self._hash.hexdigest() != self._digest:
            raise ImageError(f"{self._where}: is damaged: it does not match its digest")
