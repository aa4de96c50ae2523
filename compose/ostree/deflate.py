"""Raw deflate streams (RFC 1951) for archive repositories.

Clients accept any valid stream, and no checksum covers its bytes, so that only speed and size count. libdeflate makes streams
as small as those of zlib's level 6 in less than half the time; zlib is used where that library is missing.
"""

from __future__ import annotations

import ctypes
import mmap
import zlib
from functools import cache
from typing import Any, Protocol

from compose.ostree import joining

WHOLE_MAX = 64 << 20
"""Most bytes that are deflated at once, because libdeflate needs input and output in memory."""
PIECE = 8 << 20
"""Bytes of content in a piece of a stream. Pieces of 16 MB would not make it smaller."""
END = joining.LAST
"""Ends a stream that is joined from what Deflater.piece() returns."""

_PACKED = (
    *(b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"),
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"wOF2"),
)
"""First bytes of gzip, zstd, xz, bzip2, PNG, JPEG and WOFF2, which make up a twentieth of an operating system."""
_PROBE = 16 << 10
"""Bytes from the middle of such a file that are deflated to see whether it is worthwhile."""

_SONAME = "libdeflate.so.0"
_ZLIB_LEVEL = 6
"""The default of `ostree commit`."""
_LIBDEFLATE_LEVEL = 5
"""The fastest level whose streams are no larger than those of zlib's level 6: 557 MB against 561 MB for 1.5 GB of Debian."""


@cache
def _libdeflate() -> Any:
    """The library with its prototypes, None if it is missing."""
    try:
        library = ctypes.CDLL(_SONAME)
    except OSError:
        return None
    library.libdeflate_alloc_compressor.restype = ctypes.c_void_p
    library.libdeflate_alloc_compressor.argtypes = [ctypes.c_int]
    library.libdeflate_free_compressor.restype = None
    library.libdeflate_free_compressor.argtypes = [ctypes.c_void_p]
    library.libdeflate_deflate_compress_bound.restype = ctypes.c_size_t
    library.libdeflate_deflate_compress_bound.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.libdeflate_deflate_compress.restype = ctypes.c_size_t
    library.libdeflate_deflate_compress.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_size_t,
    ]
    return library


def codec_name() -> str:
    """The library that deflates: "libdeflate" or "zlib"."""
    return "zlib" if _libdeflate() is None else "libdeflate"


class Compressor(Protocol):
    """Makes one raw deflate stream: the results of compress(), in order, and at the end that of flush()."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Deflater:
    """Deflates at one level, 1 (fast) to 9 (dense). None is the fastest whose streams are no larger than those of `ostree
    commit`.

    Not thread-safe: use one in each thread. codec: "zlib" for that library even if libdeflate is installed, for tests.
    """

    def __init__(self, level: int | None, *, codec: str = "libdeflate") -> None:
        self._zlib_level = _ZLIB_LEVEL if level is None else level
        self._library: Any = _libdeflate() if codec == "libdeflate" else None
        self._compressor = None
        self._store = None
        if self._library is not None:
            self._compressor = self._library.libdeflate_alloc_compressor(_LIBDEFLATE_LEVEL if level is None else level)
            self._store = self._library.libdeflate_alloc_compressor(0)
            bound = self._library.libdeflate_deflate_compress_bound(self._compressor, WHOLE_MAX)
            # pages that were never written to cost nothing
            self._buffer = mmap.mmap(-1, bound)
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))

    def __del__(self) -> None:
        if self._compressor is not None:
            self._library.libdeflate_free_compressor(self._compressor)
            self._library.libdeflate_free_compressor(self._store)

    def compress(self, data: bytes) -> bytes | memoryview:
        """Return the complete raw deflate stream of at most WHOLE_MAX bytes. A view is valid until the next call."""
        if not data:
            return joining.LAST
        if self._compressor is None:
            packer = self.stream()
            whole: bytes = packer.compress(data) + packer.flush()
            return whole
        compressor = self._compressor
        if data.startswith(_PACKED):
            middle = len(data) // 2
            probe = data[middle : middle + _PROBE]
            if self._size(compressor, probe) >= len(probe):
                compressor = self._store
        return memoryview(self._buffer)[: self._size(compressor, data)]

    def _size(self, compressor: Any, data: bytes) -> int:
        """Deflate into the buffer, and return the size of the stream in bytes."""
        size: int = self._library.libdeflate_deflate_compress(
            compressor, data, len(data), self._address, len(self._buffer)
        )
        return size

    def stream(self) -> Compressor:
        """Return a compressor for content that is too large to hold. It takes pieces of at most WHOLE_MAX bytes, best PIECE,
        and this Deflater must not be used for anything else meanwhile."""
        if self._compressor is None or not joining.can_join():
            return zlib.compressobj(self._zlib_level, zlib.DEFLATED, -15)
        return _Pieces(self)

    def piece(self, data: bytes) -> bytes:
        """Return a part of a stream for at most WHOLE_MAX bytes. It does not depend on the other parts, so that several can be
        made concurrently. The stream is its parts, followed by END."""
        if self._compressor is None or not joining.can_join():
            packer = zlib.compressobj(self._zlib_level, zlib.DEFLATED, -15)
            return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
        return _Pieces(self).compress(data)


class _Pieces:
    """Makes a stream from pieces with libdeflate, in a third of the time that zlib takes for the whole."""

    def __init__(self, deflater: Deflater) -> None:
        self._deflater = deflater

    def compress(self, data: bytes, /) -> bytes:
        if not data:
            return b""
        piece = memoryview(self._deflater.compress(data))
        return b"".join((piece, joining.not_the_last(piece)))

    def flush(self) -> bytes:
        return joining.LAST
