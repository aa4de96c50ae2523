"""fs-verity digests: against known ones, and against the description of the tree read literally."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.ostree import verity, worker
from compose.ostree.verity import BLOCK, Verity

LEVEL = BLOCK * (BLOCK // 32)
"""Bytes that one block of digests stands for."""


def measured(*pieces: bytes) -> bytes:
    found = Verity()
    for piece in pieces:
        found.update(piece)
    return found.digest()


def literally(data: bytes) -> bytes:
    """Blocks, digests of blocks, digests of blocks of digests, and so on."""
    level = data
    while True:
        blocks = [level[place : place + BLOCK].ljust(BLOCK, b"\0") for place in range(0, len(level), BLOCK)]
        level = b"".join(hashlib.sha256(block).digest() for block in blocks)
        if len(level) <= 32:
            break
    # version 1, sha256, blocks of 2**12
    return hashlib.sha256(struct.pack("<BBBBIQ64s32s144s", 1, 1, 12, 0, 0, len(data), level, b"", b"")).digest()


def test_known_digests() -> None:
    # what `fsverity digest` prints
    assert measured().hex() == "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"
    assert measured(b"hello world").hex() == literally(b"hello world").hex()


@pytest.mark.parametrize(
    "size", [1, 4095, 4096, 4097, LEVEL - 1, LEVEL, LEVEL + 1, 2 * LEVEL, 127 * LEVEL + 5, 128 * LEVEL, 128 * LEVEL + 1]
)
def test_sizes_on_the_limits_of_levels(size: int) -> None:
    data = os.urandom(BLOCK) * (size // BLOCK + 1)
    assert measured(data[:size]) == literally(data[:size])


@pytest.mark.parametrize("piece", [100_003, BLOCK - 1, BLOCK, LEVEL - BLOCK, LEVEL - 1, LEVEL, LEVEL + BLOCK])
def test_pieces_that_fill_levels(piece: int) -> None:
    data = os.urandom(2 * LEVEL + 1)
    expected = literally(data)
    assert measured(*(data[place : place + piece] for place in range(0, len(data), piece))) == expected


@given(st.lists(st.integers(0, 3 * BLOCK), max_size=6), st.integers(0, 255))
def test_pieces_of_any_size(sizes: list[int], seed: int) -> None:
    pieces = [bytes((seed + number + place) % 251 for place in range(size)) for number, size in enumerate(sizes)]
    assert measured(*pieces) == literally(b"".join(pieces))


def test_a_file_is_read_once_and_must_be_what_it_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = os.urandom(3 * LEVEL + 7)
    path.write_bytes(data)
    right = hashlib.sha256(data).hexdigest()
    assert verity.answer([(str(path), right), (str(path), "")]) == [literally(data)] * 2
    assert verity.answer([(str(path), "0" * 64)]) == (worker.DAMAGED, str(path), 0, "")
    missing = str(tmp_path / "missing")
    assert verity.answer([(str(path), right), (missing, "")]) == (worker.READ, missing, 2, "No such file or directory")
    assert verity.answer([(str(tmp_path), "")]) == (worker.NOT_REGULAR, str(tmp_path), 0, "")
    (tmp_path / "link").symlink_to(path)
    assert verity.answer([(str(tmp_path / "link"), "")])[0] == worker.READ
