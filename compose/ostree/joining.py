"""Pieces of one raw deflate stream, made each on its own.

libdeflate needs all of its input in memory and says of each stream that its last block is the last of all. What is behind
such a stream is read only when that bit is taken away, and when the stream ends with a byte. Where its last block begins is
known to a decoder alone: zlib's, which stops between blocks (inflate() with Z_BLOCK, zlib.h).
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

LAST = b"\x03\x00"
"""An empty block that is the last: ends a stream of pieces."""

_SONAME = "libz.so.1"
_RAW = -15
_STOP_AT_BLOCKS = 5  # Z_BLOCK
_IN_LAST_BLOCK, _BETWEEN_BLOCKS, _UNUSED_BITS = 64, 128, 7  # of data_type
_STORED_BITS = 3
"""Of the header of a stored block: neither last nor of another type, so all are 0."""
_STORED = b"\x00\x00\xff\xff"
"""Length of an empty stored block, which stands at a byte."""
_ROOM = 1 << 20
"""Bytes that are inflated at once, and forgotten."""


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
    """The library with its prototypes, or None where it is missing."""
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
    return _zlib() is not None


def not_the_last(stream: memoryview) -> bytes:
    """Make of a whole raw deflate stream, in place, one that others follow. What must stand between it and them.

    Raises ValueError for what is no such stream.
    """
    header, unused = _last_block(stream)
    stream[header // 8] &= ~(1 << header % 8)
    # what is left of the last byte is 0, and is the header of an empty block if it is enough
    return _STORED if unused >= _STORED_BITS else b"\x00" + _STORED


def _last_block(stream: memoryview) -> tuple[int, int]:
    """Where its last block begins, in bits; bits of its last byte that are not used."""
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
                        raise ValueError("a deflate stream with something behind it")
                    return begin, unused
                begin = 8 * state.total_in - unused
            elif before == (state.total_in, state.total_out):
                raise ValueError("a deflate stream that ends too early")
    finally:
        library.inflateEnd(ctypes.byref(state))
