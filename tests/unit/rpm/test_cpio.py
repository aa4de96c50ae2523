from __future__ import annotations

import io
import stat
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import PackageError
from compose.rpm.cpio import CpioReader
from tests.support.rpmmaker import newc_entry, newc_header

FILE = stat.S_IFREG | 0o644
TRAILER = newc_entry(b"TRAILER!!!", 0, b"")


class Source:
    """Bytes in pieces of at most `piece`."""

    def __init__(self, data, piece=1 << 20):
        self.stream = io.BytesIO(data)
        self.piece = piece

    def read(self, limit):
        return self.stream.read(min(limit, self.piece))


def read_all(data, piece=1 << 20):
    reader = CpioReader(Source(data, piece), "nasty-1-1.noarch")
    found = []
    while (entry := reader.next_entry()) is not None:
        content = b"".join(bytes(part) for part in reader.content(entry.size or 0))
        found.append((entry.name, entry.mode, content))
    return found


@given(
    files=st.lists(st.tuples(st.binary(min_size=1, max_size=30).filter(lambda name: 0 not in name), st.binary())),
    piece=st.integers(1, 200),
    magic=st.sampled_from([b"070701", b"070702"]),
)
def test_what_was_written_is_read(files, piece, magic):
    files = [(name, content) for name, content in files if name != b"TRAILER!!!"]
    archive = b"".join(newc_entry(name, FILE, content, magic) for name, content in files) + TRAILER
    assert read_all(archive, piece) == [(name, FILE, content) for name, content in files]


def test_stripped_entries_are_indices():
    reader = CpioReader(Source(b"07070X0000001c\0\0abcde\0\0\0" + TRAILER), "p")
    entry = reader.next_entry()
    assert entry is not None
    assert (entry.index, entry.name, entry.size) == (28, None, None)
    assert b"".join(bytes(part) for part in reader.content(5)) == b"abcde"
    assert reader.next_entry() is None


def test_content_comes_in_pieces():
    reader = CpioReader(Source(newc_entry(b"big", FILE, bytes(5 << 20)) + TRAILER), "p")
    reader.next_entry()
    sizes = [len(part) for part in reader.content(5 << 20)]
    assert sum(sizes) == 5 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize(
    ("archive", "fault"),
    [
        (b"", "truncated"),
        (TRAILER[:20], "truncated"),
        (newc_entry(b"a", FILE, b"content"), "truncated"),
        (newc_header(b"a", FILE, 100) + b"too little", "truncated"),
        (b"070707" + TRAILER[6:], "where a cpio entry should begin"),
        (b"070701" + b"+" * 104, "hexadecimal"),
        (b"070701" + b" 0000001" * 13, "hexadecimal"),
        (b"070701" + b"0" * 88 + b"00000000" * 2, "name of 0 bytes"),
        (b"070701" + b"0" * 88 + b"00100000" + b"0" * 8, "name of 1048576 bytes"),
        (newc_header(b"a\0b", FILE, 0) + TRAILER, "malformed file name"),
        (newc_header(b"ab", FILE, 0).replace(b"ab\0", b"abc") + TRAILER, "malformed file name"),
        (TRAILER + b"garbage", "continues after the end"),
        (TRAILER + bytes(1 << 20), "continues after the end"),
    ],
)
def test_broken_archives_are_named(archive, fault):
    with pytest.raises(PackageError, match=fault) as caught:
        read_all(archive)
    assert caught.value.message.startswith("nasty-1-1.noarch: ")


def test_padding_to_a_block_is_fine():
    assert read_all(TRAILER + bytes(512 - len(TRAILER))) == []


VALID = newc_entry(b"./usr", stat.S_IFDIR | 0o755, b"") + newc_entry(b"./usr/a", FILE, b"content") + TRAILER


@given(st.data())
def test_no_damage_gives_anything_but_package_errors(data):
    archive = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(archive) - 1))
        archive[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(archive)))
    with suppress(PackageError):
        read_all(bytes(archive[:cut]) if data.draw(st.booleans()) else bytes(archive))


@given(st.binary(max_size=400))
def test_noise_gives_package_errors(noise):
    with pytest.raises(PackageError):
        read_all(noise)
