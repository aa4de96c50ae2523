"""Layers compressed in pieces by many threads."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from compose.oci import gzip as packing
from compose.oci.gzip import Packed, Packer, Stopped

_PIECE = 64 << 10
_SOME = Random(1).randbytes(_PIECE // 2) + bytes(_PIECE // 2)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_PIECE", _PIECE)


def pack(stream, threads: int = 2, level: int | None = None) -> tuple[bytes, Packed]:
    out: list[bytes] = []
    with Packer(threads, level) as packer:
        packed = packer.pack(stream, out.append)
    return b"".join(out), packed


@pytest.mark.parametrize("size", [0, 1, _PIECE - 1, _PIECE, _PIECE + 1, 3 * _PIECE + 7])
def test_any_reader_reads_it(size: int) -> None:
    plain = (_SOME * (size // len(_SOME) + 1))[:size]
    data, packed = pack([plain])
    assert gzip.decompress(data) == plain
    assert packed == Packed(
        digest=hashlib.sha256(data).hexdigest(), size=len(data), diffid=hashlib.sha256(plain).hexdigest()
    )
    # no time, no name
    assert data[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def test_neither_threads_nor_the_cutting_of_the_stream_matter() -> None:
    plain = _SOME * 5
    whole, _ = pack([plain], threads=1)
    small, _ = pack((plain[at : at + 77_777] for at in range(0, len(plain), 77_777)), threads=4)
    assert whole == small


def test_more_layers_than_room_for_pieces_do_not_wait_for_each_other() -> None:
    with Packer(1) as packer, ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: packer.pack([_SOME] * 9, lambda _: None), range(8), timeout=100))
    assert len({each.digest for each in done}) == 1


def test_a_level_is_taken() -> None:
    text = " ".join(Random(1).choices([f"word{number}" for number in range(999)], k=9999)).encode()
    assert pack([text], level=9)[1].size < pack([text], level=1)[1].size


def test_what_breaks_is_told_and_gives_its_room_back() -> None:
    def broken() -> Iterator[bytes]:
        yield _SOME * 9
        raise OSError("the source")

    def full(_data: bytes) -> None:
        raise OSError("the disk")

    with Packer(1) as packer:
        for _ in range(9):
            with pytest.raises(OSError, match="the source"):
                packer.pack(broken(), lambda _: None)
            with pytest.raises(OSError, match="the disk"):
                packer.pack([_SOME * 9], full)
        assert packer.pack([_SOME], lambda _: None).size


def test_it_stops_when_asked() -> None:
    begun = threading.Event()

    def endless() -> Iterator[bytes]:
        while True:
            begun.set()
            yield b"x" * 1000

    with Packer(1) as packer, ThreadPoolExecutor(1) as pool:
        future = pool.submit(packer.pack, endless(), lambda _: None)
        begun.wait(10)
        packer.stop()
        with pytest.raises(Stopped):
            future.result(10)
