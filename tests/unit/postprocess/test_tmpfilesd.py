"""tmpfiles.d lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.postprocess.tmpfilesd import created_paths, line_for
from tests.support.treetext import MemoryStore, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("d var/mail 2775", "d /var/mail 2775 root mail - -"),
        ("l var/run ../run", "L /var/run - - - - ../run"),
        ('f var/lib/x/lock 0600 ""', "f /var/lib/x/lock 0600 root mail - -"),
        ('d "var/a b%c" 0755', r"d /var/a\x20b%%c 0755 root mail - -"),
        ('l var/l "to \\\\ there"', r"L /var/l - - - - to\x20\x5c\x20there"),
    ],
)
def test_line_for_an_entry(text: str, expected: str) -> None:
    tree = parse(text, MemoryStore())
    path, entry = list(tree.walk())[-1]
    assert line_for(f"/{path}", entry, "root", "mail") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("d /var/tmp 1777 root root 30d", ["/var/tmp"]),
        ("L+ /var/run - - - - ../run", ["/var/run"]),
        ("d! /run/x//y/ - - - -", ["/run/x/y"]),
        ('d "/var/a b" 0755', ["/var/a b"]),
        (r"d /var/a\x20b%%c 0755", ["/var/a b%c"]),
        (r"d '/var/q\'q' 0755", ["/var/q'q"]),
        ("  q /var/indented", ["/var/indented"]),
        # these adjust, clean or remove what is there
        ("z /var/log/journal 2755", []),
        ("x /var/tmp/systemd-private-%b-*", []),
        ("r! /var/lib/rpm/__db*", []),
        ("e /var/cache/man", []),
        ("# d /var/no", []),
        ("d", []),
        ("", []),
    ],
)
def test_paths_that_a_line_makes(line: str, expected: list[str]) -> None:
    assert list(created_paths(line)) == expected


@given(st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1))
def test_any_name_can_be_read_back(name: str) -> None:
    entry = parse("d x 0755", MemoryStore())["x"]
    assert list(created_paths(line_for(f"/var/{name}", entry, "root", "root"))) == [f"/var/{name}"]
