"""Join raw deflate streams, each made on its own, into one.

libdeflate needs all of its input in memory, and marks the last block of each stream as final. Another stream can follow only if
that bit is cleared and the stream ends at a byte boundary. Only a decoder can find the last block: zlib's, which can stop
between blocks (inflate() with Z_BLOCK, zlib.h).
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

LAST = b"\x03\x00"
"""An empty final block, which ends a joined stream."""

_SONAME = "libz.so.1"
_RAW = -15
_STOP_AT_BLOCKS = 5  # Z_BLOCK
_IN_LAST_BLOCK, _BETWEEN_BLOCKS, _UNUSED_BITS = 64, 128, 7  # of data_type
_STORED_BITS = 3
"""Bits in the header of a stored block that is not final, all 0."""
_STORED = b"\x00\x00\xff\xff"
"""The length of an empty stored block, and its complement. They start at a byte boundary."""
_ROOM = 1 << 20
"""Size in bytes of the buffer for inflated data, which is discarded."""


class _State(ctypes.Structure):
    """struct z_stream_s of zlib.h."""

    _fields_ = (
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint),
        ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint),
        ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@cache
def _zlib() -> Any:
    """The library with its prototypes, None if it is missing."""
    try:
        library = ctypes.CDLL(_SONAME)
    except OSError:
        return None
    library.zlibVersion.restype = ctypes.c_char_p
    library.inflateInit2_.argtypes = [ctypes.POINTER(_State), ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.inflate.argtypes = [ctypes.POINTER(_State), ctypes.c_int]
    library.inflateEnd.argtypes = [ctypes.POINTER(_State)]
    return library


def can_join() -> bool:
    """Is zlib, which not_the_last() needs, installed?"""
    return _zlib() is not None


def not_the_last(stream: memoryview) -> bytes:
    """Change a complete raw deflate stream in place so that others can follow it. Returns the bytes to insert between them.

    Raises ValueError for data that is not one such stream, MemoryError if there is no memory for the decoder.
    """
    header, unused = _last_block(stream)
    stream[header // 8] &= ~(1 << header % 8)
    # the unused bits of the last byte are 0: if there are enough, they are the header of the stored block
    return _STORED if unused >= _STORED_BITS else b"\x00" + _STORED


def _last_block(stream: memoryview) -> tuple[int, int]:
    """Return the offset of the last block in bits, and the number of unused bits in the last byte."""
    library = _zlib()
    state, room = _State(), ctypes.create_string_buffer(_ROOM)
    state.next_in, state.avail_in = ctypes.addressof(ctypes.c_char.from_buffer(stream)), len(stream)
    if library.inflateInit2_(ctypes.byref(state), _RAW, library.zlibVersion(), ctypes.sizeof(state)):
        raise MemoryError
    try:
        begin = 0
        while True:
            state.next_out, state.avail_out = ctypes.addressof(room), len(room)
            before = state.total_in, state.total_out
            if library.inflate(ctypes.byref(state), _STOP_AT_BLOCKS):
                raise ValueError("not a deflate stream")
            if state.data_type & _BETWEEN_BLOCKS:
                unused = state.data_type & _UNUSED_BITS
                if state.data_type & _IN_LAST_BLOCK:
                    if state.avail_in:
                        raise ValueError("a deflate stream followed by other data")
                    return begin, unused
                begin = 8 * state.total_in - unused
            elif before == (state.total_in, state.total_out):
                raise ValueError("a truncated deflate stream")
    finally:
        library.inflateEnd(ctypes.byref(state))
