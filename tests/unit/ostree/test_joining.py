"""Deflate streams of pieces: one stream for whoever reads it."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.ostree import joining
from compose.ostree.deflate import PIECE, Deflater, codec_name

pytestmark = pytest.mark.skipif(not joining.can_join(), reason="no libz.so.1")

PIECES = st.lists(
    st.one_of(
        st.binary(max_size=400),
        st.builds(bytes, st.integers(0, 70_000)),
        st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 9), st.integers(0, 200_000)),
        st.builds(lambda text, times: text * times, st.binary(max_size=40), st.integers(0, 3000)),
    ),
    max_size=5,
)


@given(pieces=PIECES, level=st.sampled_from([None, 1, 6, 9]))
def test_pieces_make_one_stream(pieces: list[bytes], level: int | None) -> None:
    packer = Deflater(level).stream()
    stream = b"".join(map(packer.compress, pieces)) + packer.flush()
    assert zlib.decompress(stream, -15) == b"".join(pieces)


@given(pieces=PIECES, level=st.integers(0, 9), strategy=st.sampled_from([zlib.Z_FIXED, zlib.Z_DEFAULT_STRATEGY]))
def test_streams_of_zlib_are_joined_too(pieces: list[bytes], level: int, strategy: int) -> None:
    """Its blocks begin and end at other bits than libdeflate's."""
    joined = b""
    for piece in pieces:
        packer = zlib.compressobj(level, zlib.DEFLATED, -15, strategy=strategy)
        stream = memoryview(bytearray(packer.compress(piece) + packer.flush()))
        joined += b"".join((stream, joining.not_the_last(stream)))
    assert zlib.decompress(joined + joining.LAST, -15) == b"".join(pieces)


@pytest.mark.parametrize(
    "stream", [b"\x07", b"\x05", zlib.compress(b"x" * 99, wbits=-15)[:-1], zlib.compress(b"x", wbits=-15) + b"more"]
)
def test_what_is_no_stream_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match="deflate"):
        joining.not_the_last(memoryview(bytearray(stream)))


@pytest.mark.skipif(codec_name() != "libdeflate", reason="no libdeflate")
def test_pieces_cost_next_to_nothing() -> None:
    words = [random.Random(number).randbytes(9) for number in range(5000)]
    # what comes again after a MiB is beyond the window
    block = b"".join(random.Random(1).choices(words, k=(1 << 20) // 9))
    data = block * (2 * PIECE // len(block))
    packer = Deflater(None).stream()
    size = sum(len(packer.compress(data[at : at + PIECE])) for at in range(0, len(data), PIECE)) + len(packer.flush())
    assert size <= len(Deflater(None).compress(data)) * 1.001
