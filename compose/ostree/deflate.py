"""Raw deflate streams (RFC 1951) for archive repositories.

Any valid stream is accepted by clients, and nothing of it is hashed: only speed and size count. libdeflate makes
streams as small as zlib's level 6 in less than half the time; where the library is missing zlib does it.
"""

from __future__ import annotations

import ctypes
import mmap
import zlib
from functools import cache
from typing import Any, Protocol

from compose.ostree import joining

WHOLE_MAX = 64 << 20
"""Bytes that are deflated at once, for libdeflate needs input and output in memory: most of a stream that is not in pieces,
and of a piece."""
PIECE = 8 << 20
"""Bytes of a piece: 16 MB is no smaller in the end."""
END = joining.LAST
"""Ends a stream put together of Deflater.piece()."""

_PACKED = (
    *(b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"),
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"wOF2"),
)
"""How gzip, zstd, xz, bzip2, PNG, JPEG and WOFF2 begin: a twentieth of the bytes of an operating system."""
_PROBE = 16 << 10
"""Bytes from the middle of such a file that are deflated to see whether that is worth while."""

_SONAME = "libdeflate.so.0"
_ZLIB_LEVEL = 6
"""What `ostree commit` uses."""
_LIBDEFLATE_LEVEL = 5
"""The fastest level whose streams are no larger than zlib's level 6: 557 MB beside 561 MB on 1.5 GB of Debian."""


@cache
def _libdeflate() -> Any:
    """The library with its prototypes, or None where it is missing."""
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
    """ "libdeflate" or "zlib"."""
    return "zlib" if _libdeflate() is None else "libdeflate"


class Compressor(Protocol):
    """Makes one raw deflate stream: all that compress() returns, in order, and at the end flush()."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Deflater:
    """Deflates at one level, 1 (fast) to 9 (dense); None: no larger than what `ostree commit` makes, and fast.

    Not for use from two threads at once: each has its own. codec: tests ask for "zlib" where both are there.
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
            # pages that no output has touched cost nothing
            self._buffer = mmap.mmap(-1, bound)
            self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))

    def __del__(self) -> None:
        if self._compressor is not None:
            self._library.libdeflate_free_compressor(self._compressor)
            self._library.libdeflate_free_compressor(self._store)

    def compress(self, data: bytes) -> bytes | memoryview:
        """A complete raw deflate stream of at most WHOLE_MAX bytes; a view is good until the next call."""
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
        """Deflate into the buffer."""
        size: int = self._library.libdeflate_deflate_compress(
            compressor, data, len(data), self._address, len(self._buffer)
        )
        return size

    def stream(self) -> Compressor:
        """For content too large to hold; of pieces of at most WHOLE_MAX bytes, better of PIECE. Nothing else is done with
        this Deflater meanwhile."""
        if self._compressor is None or not joining.can_join():
            return zlib.compressobj(self._zlib_level, zlib.DEFLATED, -15)
        return _Pieces(self)

    def piece(self, data: bytes) -> bytes:
        """A part of a stream, made without a look at the others, of at most WHOLE_MAX bytes: many may be made at once. END
        ends what is put together of them."""
        if self._compressor is None or not joining.can_join():
            packer = zlib.compressobj(self._zlib_level, zlib.DEFLATED, -15)
            return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
        return _Pieces(self).compress(data)


class _Pieces:
    """A stream of pieces: zlib takes three times as long for what is one."""

    def __init__(self, deflater: Deflater) -> None:
        self._deflater = deflater

    def compress(self, data: bytes, /) -> bytes:
        if not data:
            return b""
        piece = memoryview(self._deflater.compress(data))
        return b"".join((piece, joining.not_the_last(piece)))

    def flush(self) -> bytes:
        return joining.LAST
