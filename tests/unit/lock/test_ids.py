"""The file of locked ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.assemble.ids import IdLock
from compose.errors import TreefileError
from compose.lock.ids import format_ids, parse_ids

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
ids = st.dictionaries(names, st.integers(1, 60000), max_size=5).filter(
    lambda each: len(set(each.values())) == len(each)
)


@given(ids, ids)
def test_what_is_written_is_read_back(users: dict[str, int], groups: dict[str, int]) -> None:
    lock = IdLock(path="x", users=users, groups=groups)
    assert parse_ids(format_ids(lock).encode(), "x") == lock


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("users: {}", "x:1:1: compose-ids must be 1"),
        ("compose-ids: 2", "x:1:1: compose-ids must be 1"),
        ("compose-ids: 1\nuser: {}", "x:2:1: user: unknown key"),
        ("compose-ids: 1\nusers: [a]", "x:2:1: users must be a mapping"),
        ("compose-ids: 1\nusers: {a: x}", "x:2:9: users.a must be a number from 1"),
        ("compose-ids: 1\nusers: {a: 0}", "users.a must be a number from 1"),
        ("compose-ids: 1\nusers: {a: 5, b: 5}", "x:2:15: users: b and a have the same id 5"),
        ("[", "x:2:1: not YAML"),
    ],
)
def test_faults(text: str, complaint: str) -> None:
    with pytest.raises(TreefileError) as caught:
        parse_ids(text.encode(), "x")
    assert complaint in caught.value.message


@given(st.binary(max_size=80))
def test_never_a_traceback(data: bytes) -> None:
    try:
        parse_ids(data, "x")
    except TreefileError as error:
        assert "x" in error.message
