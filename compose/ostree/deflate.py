"""Raw deflate streams (RFC 1951) for archive repositories.

Any valid stream is accepted by clients, and nothing of it is hashed: only speed and size count. libdeflate makes
streams as small as zlib's level 6 in less than half the time; where the library is missing zlib does it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import zlib
from functools import cache
from typing import Any

STREAMED_FROM = 32 << 20
"""Bytes from which on content is deflated in pieces by zlib: libdeflate needs the whole of it in memory at once."""

EMPTY = b"\x03\x00"


@cache
def _libdeflate() -> Any:
    """The library with its prototypes, or None where it is missing."""
    try:
        library = ctypes.CDLL(ctypes.util.find_library("deflate") or "libdeflate.so.0")
    except OSError:
        return None
    library.libdeflate_alloc_compressor.restype = ctypes.c_void_p
    library.libdeflate_alloc_compressor.argtypes = [ctypes.c_int]
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
    """ "libdeflate" or "zlib"."""
    return "zlib" if _libdeflate() is None else "libdeflate"


class Deflater:
    """Deflates whole buffers at one level, 1..9. Not for use from two threads at once: each thread has its own."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._library = _libdeflate()
        self._compressor = self._library.libdeflate_alloc_compressor(level) if self._library else None
        self._buffer = ctypes.create_string_buffer(1 << 20)

    def __del__(self) -> None:
        if self._compressor:
            self._library.libdeflate_free_compressor(self._compressor)

    def compress(self, data: bytes) -> bytes | memoryview:
        """A complete raw deflate stream; a view is good until the next call."""
        if not data:
            return EMPTY
        if not self._compressor:
            packer = self.stream()
            whole: bytes = packer.compress(data) + packer.flush()
            return whole
        bound = self._library.libdeflate_deflate_compress_bound(self._compressor, len(data))
        if bound > len(self._buffer):
            self._buffer = ctypes.create_string_buffer(bound)
        size = self._library.libdeflate_deflate_compress(
            self._compressor, data, len(data), self._buffer, len(self._buffer)
        )
        return memoryview(self._buffer)[:size]

    def stream(self) -> Any:
        """A zlib compressobj for content too large to hold."""
        return zlib.compressobj(self._level, zlib.DEFLATED, -15)
