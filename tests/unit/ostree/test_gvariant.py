"""GVariant: known bytes, and what is written is read back."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.ostree.gvariant import (
    Variant,
    be32,
    be64,
    decode,
    decode_entries,
    encode,
    fixed_size,
    frame,
    split_type,
)


@pytest.mark.parametrize(
    ("signature", "value", "expected"),
    [
        ("s", "hello world", b"hello world\0"),
        ("b", True, b"\1"),
        ("as", ["i", "can", "has", "strings?"], b"i\0can\0has\0strings?\0\x02\x06\x0a\x13"),
        ("(si)", ("foo", -1), b"foo\0\xff\xff\xff\xff\x04"),
        ("a(si)", [("hi", -2), ("bye", -1)], b"hi\0\0\xfe\xff\xff\xff\x03\0\0\0bye\0\xff\xff\xff\xff\x04\x09\x15"),
        ("{sv}", ("k", Variant("s", "v")), b"k\0\0\0\0\0\0\0v\0\0s\x02"),
        ("ay", b"\4\5", b"\4\5"),
        ("(yy)", (0x70, 0x80), b"\x70\x80"),
        ("(iy)", (96, 0x70), b"\x60\0\0\0\x70\0\0\0"),
        ("a(iy)", [(96, 0x70), (648, 0xF7)], b"\x60\0\0\0\x70\0\0\0\x88\x02\0\0\xf7\0\0\0"),
        ("as", [], b""),
    ],
)
def test_examples_of_the_specification(signature: str, value: object, expected: bytes) -> None:
    assert encode(signature, value) == expected
    decoded = decode(signature, expected)
    assert decoded == (list(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(("size", "width"), [(254, 1), (255, 2), (65533, 2), (65534, 4)])
def test_offset_width_counts_the_offsets_themselves(size: int, width: int) -> None:
    assert len(frame(bytes(size), (1,))) - size == width


values = st.recursive(
    st.one_of(
        st.tuples(st.just("s"), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))),
        st.tuples(st.just("u"), st.integers(0, 2**32 - 1)),
        st.tuples(st.just("t"), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("x"), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just("b"), st.booleans()),
        st.tuples(st.just("ay"), st.binary(max_size=400)),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.integers(0, 40)).map(lambda pair: ("a" + pair[0][0], [pair[0][1]] * pair[1])),
        st.lists(inner, min_size=1, max_size=5).map(
            lambda pairs: ("(" + "".join(kind for kind, _ in pairs) + ")", tuple(value for _, value in pairs))
        ),
        inner.map(lambda pair: ("v", Variant(*pair))),
    ),
    max_leaves=12,
)


@given(values)
def test_round_trip(pair: tuple[str, object]) -> None:
    signature, value = pair
    assert decode(signature, encode(signature, value)) == value


entries = st.lists(
    st.tuples(st.sampled_from(["", "key", "version", "x" * 300]), values.map(lambda pair: Variant(*pair)))
)


@given(entries, st.sets(st.sampled_from(["", "key", "version", "absent"])))
def test_entries_of_some_keys_are_those_among_all(rows: list[tuple[str, Variant]], keys: set[str]) -> None:
    assert decode_entries(encode("a{sv}", rows), keys) == [row for row in rows if row[0] in keys]


@given(st.binary(max_size=200))
def test_damage_of_what_is_looked_for_is_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        found = decode_entries(data, {"", "a"})
        assert [key for key, _ in found if key not in ("", "a")] == []


@given(
    st.sampled_from(["(a{sv}aya(say)sstayay)", "(a(say)a(sayay))", "a(ayay)", "v", "a{sv}"]), st.binary(max_size=200)
)
def test_damage_is_a_value_error(signature: str, data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(signature, data)


def _nested(levels: int) -> bytes:
    return b"\1\0b" + b"\0v" * (levels - 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x\0\0ss", "more than one type"),
        (b"x\0\0(s", "unbalanced"),
        # each costs a second or two, and a gigabyte
        (bytes(2) + b"a" * 1_000_000 + b"y", "more than 1024 characters"),
        (bytes(2) + b"(" + b"y" * 200_000 + b")", "more than 1024 characters"),
        (b"a\0b\0\0s", "NUL"),
        (_nested(129), "nested too deeply"),
        (b"\1" + bytes(range(1, 128)) + b"\0" + b"a" * 128 + b"b", "nested too deeply"),
        (b"\1\0" + b"(" * 128 + b"b" + b")" * 128, "nested too deeply"),
    ],
)
def test_what_could_not_be_written_again_is_damage(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode("v", data)
    row = frame(b"key\0" + bytes(4) + data, (4,))
    with pytest.raises(ValueError, match=said):
        decode_entries(frame(row, (len(row),)), {"key"})


def test_a_large_value_in_many_variants_is_not_copied_for_each() -> None:
    data = bytes(1_000_000) + b"\0ay" + b"\0v" * 100
    tracemalloc.start()
    try:
        assert encode("v", decode("v", data)) == data
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_as_many_levels_as_clients_read() -> None:
    assert encode("v", decode("v", _nested(128))) == _nested(128)


def test_big_endian() -> None:
    assert encode("u", be32(0x01020304)) == b"\1\2\3\4"
    assert encode("t", be64(1)) == bytes(7) + b"\1"


def test_types() -> None:
    assert split_type("a{sv}ay") == ("a{sv}", "ay")
    assert fixed_size("(iy)") == 8
    assert fixed_size("(is)") == 0
    with pytest.raises(ValueError, match="more than one"):
        encode("ss", "x")


@pytest.mark.parametrize(
    ("signature", "value"), [("u", -1), ("y", 256), ("u", "1"), ("", 1), ("a", [1]), ("(u)", (2**32,))]
)
def test_what_a_type_cannot_hold(signature: str, value: object) -> None:
    with pytest.raises(ValueError, match="not a value of type"):
        encode(signature, value)
