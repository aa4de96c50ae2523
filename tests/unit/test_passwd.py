"""Account files, as getpwent(3) reads them."""

from __future__ import annotations

import pytest

from compose.assemble.accounts import declared_ids, parse_ids
from compose.passwd import entries, parse_id
from compose.postprocess.drift import parse_entries


def test_a_line_ends_at_a_newline_only() -> None:
    assert entries("a:x:1\n\nb\u2028c:y\x85:2\r\n") == [["a", "x", "1"], ["b\u2028c", "y\x85", "2\r"]]


def test_comments_and_nis_entries_name_nobody() -> None:
    """As for getpwent(3) with the source files of nsswitch.conf."""
    assert entries("#games:x:12:100:::\na:x:1\n+@admins::::::\n-b::::::\n+\n") == [["a", "x", "1"]]


@pytest.mark.parametrize("text", ["", "-1", "+1", "²", "٣", "1" * 11, "1" * 5000, "x", "1_0"])
def test_what_is_no_id(text: str) -> None:
    assert parse_id(text) is None
    # in a package's own file, too
    assert parse_ids(f"a:x:{text}:0:\n".encode()) == {}
    assert parse_entries("passwd", f"a:x:0:{text}:\nb:x:{text}:0:\n") == {}
    assert declared_ids((f'u a {text or "-"} "A"\n',))[0] == {"a": None}


def test_ids() -> None:
    assert (parse_id("0"), parse_id("4294967295")) == (0, 4294967295)
