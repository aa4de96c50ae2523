"""Kinds of difference."""

from __future__ import annotations

import struct

import pytest

from compose.variance import Kind, kind_of

NOW = 1_790_000_000


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (b"built 2026-11-25 10:00:01\n", b"built 2026-11-26 23:59:59\n", Kind.TIMES),
        (b"epoch=1790000000\n", b"epoch=1790000007\n", Kind.TIMES),
        (b"# Wed, 25 Nov 2026 10:00:00\n", b"# Thu, 26 Nov 2026 09:00:00\n", Kind.TIMES),
        (b"a\nb\nc\n", b"c\na\nb\n", Kind.ORDER),
        (b"id: 3f2504e0-4f89-11d3-9a0c-0305e82c3301\n", b"id: 936da01f-9abd-4d9d-80c7-02af85c822a8\n", Kind.RANDOM),
        (b"tmp.aBcDeFgHiJ\n", b"tmp.1234567890\n", Kind.RANDOM),
        (b"pid 12\n", b"pid 34567\n", Kind.NUMBERS),
        (b"one\n", b"two\n", Kind.OTHER),
        (b"\0" + struct.pack("<I", NOW) + b"x\0", b"\0" + struct.pack("<I", NOW + 70_000) + b"x\0", Kind.TIMES),
        (b"\0" + struct.pack(">Q", NOW), b"\0" + struct.pack(">Q", NOW + 1), Kind.TIMES),
        (bytes(range(200)), bytes(reversed(range(200))), Kind.ORDER),
        (b"\0" + b"\x01" * 32, b"\0" + b"\xfe" * 32, Kind.RANDOM),
        (b"\0", b"\0\0", Kind.OTHER),
        (b"", b"more\n", Kind.OTHER),
    ],
)
def test_kinds(before: bytes, after: bytes, kind: Kind) -> None:
    assert kind_of(before, after) is kind
    assert kind_of(after, before) is kind


def test_a_time_beside_something_random_is_no_time() -> None:
    before = struct.pack("<I", NOW) + bytes(8) + bytes(range(16))
    after = struct.pack("<I", NOW + 5) + bytes(8) + bytes(range(100, 116))
    assert kind_of(before, after) is Kind.RANDOM
