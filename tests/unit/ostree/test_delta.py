"""Static deltas: matching, patches and pairs."""

from __future__ import annotations

import bz2
import lzma
import random
import struct
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.ostree.delta import bsdiff, patching
from compose.ostree.delta.layout import delta_path, ends_of, index_path, varint
from compose.ostree.delta.matching import common_segments
from compose.ostree.delta.pairs import OldFile, OldFiles
from compose.ostree.delta.threads import Cancellation, in_threads

RANDOM = random.Random(1).randbytes(200_000)
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.builds(lambda begin, size: RANDOM[begin : begin + size], st.integers(0, 4000), st.integers(0, 3000)),
        st.builds(bytes, st.integers(0, 300)),
    ),
    max_size=6,
).map(b"".join)
FIRST, SECOND = bytes(range(32)).hex(), (b"\xff" * 32).hex()


@given(old=PIECES, new=PIECES)
def test_segments_are_the_same_bytes_and_in_order(old: bytes, new: bytes) -> None:
    place = 0
    for each in common_segments(old, new):
        assert each.begin >= place
        assert each.size > 0
        assert new[each.begin : each.end] == old[each.source : each.source + each.size]
        place = each.end
    assert place <= len(new)


@pytest.mark.parametrize(
    "new",
    [
        RANDOM,
        RANDOM[777:],
        RANDOM[:-777],
        b"before" + RANDOM,
        RANDOM[:70_001] + b"between" * 9 + RANDOM[70_001:],
        RANDOM[:70_001] + RANDOM[70_900:],
        RANDOM[100_000:] + RANDOM[:100_000],
    ],
    ids=["equal", "begin cut", "end cut", "put before", "put between", "cut between", "swapped"],
)
def test_what_moves_is_found(new: bytes) -> None:
    found = sum(each.size for each in common_segments(RANDOM, new))
    assert found > len(new) - 400


def test_files_with_nothing_in_common() -> None:
    assert common_segments(RANDOM[:9000], RANDOM[9000:20_000]) == ()
    assert common_segments(b"", RANDOM) == ()
    assert common_segments(RANDOM, b"") == ()


def applied(old: bytes, stream: bytes) -> bytes:
    """As libostree's bspatch does."""

    def number(place: int) -> int:
        value = int(struct.unpack_from("<Q", stream, place)[0])
        return -(value & (1 << 63) - 1) if value >> 63 else value

    out, place, at = bytearray(), 0, 0
    while place < len(stream):
        add, copy, move = (number(place + each) for each in (0, 8, 16))
        place += 24
        for index, byte in enumerate(stream[place : place + add]):
            source = old[at + index] if 0 <= at + index < len(old) else 0
            out.append((byte + source) & 0xFF)
        out += stream[place + add : place + add + copy]
        place, at = place + add + copy, at + add + move
    return bytes(out)


def patch_of(rows: bytes, added: bytes, extra: bytes, size: int) -> bytes:
    blocks = [bz2.compress(each) for each in (rows, added, extra)]
    return struct.pack("<8sQQQ", b"BSDIFF40", len(blocks[0]), len(blocks[1]), size) + b"".join(blocks)


def test_a_patch_becomes_what_clients_read() -> None:
    rows = struct.pack("<QQQ", 3, 2, 1 << 63 | 1) + struct.pack("<QQQ", 2, 0, 0)
    stream = bsdiff.stream_of(patch_of(rows, b"\0\1\0\0\0", b"xy", 7), 7)
    assert applied(b"abcdef", stream) == b"accxycd"


@pytest.mark.skipif(not bsdiff.is_installed(), reason="needs bsdiff")
def test_the_program_makes_such_patches() -> None:
    old = RANDOM[:20_000]
    new = old[:4000] + b"new" + bytes(each ^ (number % 50 == 0) for number, each in enumerate(old[4100:]))
    patch = bsdiff.Bsdiff().patch(old, new)
    assert patch is not None
    assert len(lzma.compress(patch)) < 1000
    assert applied(old, patch) == new


ROWS = struct.pack("<QQQ", 3, 0, 0)


@pytest.mark.parametrize(
    "patch",
    [
        b"",
        b"BSDIFF40",
        patch_of(ROWS, b"abc", b"", 4),
        patch_of(ROWS, b"ab", b"", 3),
        patch_of(ROWS[:-1], b"abc", b"", 3),
        patch_of(ROWS, b"abc", b"", 3).replace(b"BSDIFF40", b"BSDIFF41"),
        patch_of(ROWS, b"abc", b"", 3)[:40] + bytes(99),
        struct.pack("<8sQQQ", b"BSDIFF40", 1 << 60, 1, 3) + bytes(99),
    ],
)
def test_damaged_patches(patch: bytes) -> None:
    with pytest.raises(ValueError, match="patch"):
        bsdiff.stream_of(patch, 3)


def test_a_stopped_program_starts_nothing() -> None:
    program = bsdiff.Bsdiff()
    program.stop()
    assert program.patch(b"old", b"new") is None
    assert program.failures == 0


def test_pairs() -> None:
    sizes = {b"lib": 1000, b"secret": None, b"readme": 100, b"module": 500, b"moved": 700, b"empty": 0}
    old = OldFiles(
        [
            ("usr/lib/libfoo.so.1.2.3", b"lib"),
            ("usr/bin/secret", b"secret"),
            ("usr/share/doc/one/README", b"readme"),
            ("usr/lib/modules/6.1.2/ext4.ko", b"module"),
            ("usr/sbin/tool", b"moved"),
            ("usr/empty", b"empty"),
        ],
        sizes.__getitem__,
    )
    assert old.similar("usr/lib/libfoo.so.1.2.3", 1) == OldFile(b"lib", 1000)
    assert old.similar("usr/lib/libfoo.so.1.2.4", 1) == OldFile(b"lib", 1000)
    assert old.similar("usr/lib/modules/6.1.3/ext4.ko", 9) == OldFile(b"module", 500)
    assert old.similar("usr/bin/tool", 690) == OldFile(b"moved", 700)
    assert old.similar("usr/bin/tool", 7000) is None
    assert old.similar("usr/share/doc/two/README", 120) == OldFile(b"readme", 100)
    assert old.similar("usr/bin/secret", 100) is None
    assert old.similar("usr/empty", 100) is None
    assert old.similar("usr/bin/other", 100) is None


def test_a_name_that_many_have_says_nothing() -> None:
    old = OldFiles([(f"{each}x/index.html", bytes([each % 256, each // 256])) for each in range(300)], lambda _: 10)
    assert old.similar("5x/index.html", 10) == OldFile(bytes([5, 0]), 10)
    assert old.similar("other/index.html", 10) is None


def test_names() -> None:
    assert delta_path(None, FIRST) == "deltas/AA/ECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert delta_path(SECOND, FIRST).startswith("deltas/__/")
    assert index_path(SECOND) == f"delta-indexes/__/{'_' * 40}8.index"
    assert ends_of(delta_path(SECOND, FIRST)[7:].replace("/", "", 1)) == [SECOND, FIRST]
    assert ends_of(delta_path(None, FIRST)[7:].replace("/", "", 1)) == [FIRST]
    for other in ("", "lost+found", "a-b-c", "é" * 43, "A" * 42):
        assert ends_of(other) is None


@pytest.mark.parametrize(("number", "data"), [(0, "00"), (127, "7f"), (128, "8001"), (1 << 32, "8080808010")])
def test_varint(number: int, data: str) -> None:
    assert varint(number).hex() == data


@given(old=PIECES, new=PIECES)
def test_our_own_patches(old: bytes, new: bytes) -> None:
    assert applied(old, patching.patch(old, new, common_segments(old, new))) == new


@given(new=st.binary(max_size=200), seed=st.integers(0, 9))
def test_differences_of_bytes(new: bytes, seed: int) -> None:
    old = random.Random(seed).randbytes(300)
    expected = bytes((each - old[7 + place]) & 0xFF for place, each in enumerate(new))
    assert patching.difference(new, old, 7) == expected


@pytest.mark.parametrize("first", [True, False])
def test_an_error_ends_what_is_under_way(first: bool) -> None:
    """first: does the first one fail?"""
    cancellation, begun = Cancellation(), threading.Event()

    def work(fails: bool) -> None:
        if fails:
            begun.wait()
            raise ValueError("damaged")
        begun.set()
        while True:
            cancellation.check()
            time.sleep(0.001)

    with pytest.raises(ValueError, match="damaged"):
        in_threads(work, [first, not first], 2, cancellation.cancel)


def test_a_program_that_was_built_again() -> None:
    """All addresses in it have moved by three."""
    new = (
        RANDOM[:50_000]
        + b"new"
        + bytes((each + 3) & 0xFF if number % 100 == 0 else each for number, each in enumerate(RANDOM[50_000:]))
    )
    stream = patching.patch(RANDOM, new, common_segments(RANDOM, new))
    assert applied(RANDOM, stream) == new
    assert len(lzma.compress(stream)) < 1000
