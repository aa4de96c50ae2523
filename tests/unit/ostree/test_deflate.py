"""Raw deflate streams: zlib reads them, whatever made them."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from compose.ostree.deflate import Deflater, codec_name

CODECS = ["zlib", *({"libdeflate", codec_name()} - {"zlib"})]
RANDOM = random.Random(1).randbytes(200_000)
CONTENTS = {
    "empty": b"",
    "byte": b"x",
    "zeros": bytes(300_000),
    "text": b"".join(f"line {number % 977}\n".encode() for number in range(40_000)),
    "random": RANDOM,
    "packed": gzip.compress(RANDOM, 1),
    # like a file that is packed, but holds what can be packed
    "pretender": b"\x1f\x8b\x08" + bytes(100_000),
    "magic alone": b"\x28\xb5\x2f\xfd",
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("level", [None, 1, 6, 9])
@pytest.mark.parametrize("name", CONTENTS)
def test_what_comes_out_is_what_went_in(name: str, level: int | None, codec: str) -> None:
    data = CONTENTS[name]
    deflater = Deflater(level, codec=codec)
    for _ in range(2):
        assert zlib.decompress(bytes(deflater.compress(data)), -15) == data


@pytest.mark.parametrize("name", ["random", "packed", "pretender"])
def test_no_stream_is_much_larger_than_that_of_ostree(name: str) -> None:
    data = CONTENTS[name]
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    theirs = len(packer.compress(data) + packer.flush())
    # a stored block of 64 KiB has a header of 5 bytes
    assert len(Deflater(None).compress(data)) <= theirs * 1.01 + 10
