"""Ids of accounts must not change."""

from __future__ import annotations

import pytest

from compose.errors import PolicyError
from compose.events import Reporter
from compose.postprocess.drift import ALL, Reference, check_accounts, parse_entries
from tests.support.treetext import MemoryStore, parse

TREE = r"""
    f usr/etc/passwd 0644 "root:x:0:0::/root:/bin/sh\n"
    f usr/lib/passwd 0644 "www:x:33:34::/:/x\nnew:x:990:990::/:/x\n"
    f usr/lib/group 0644 "www:x:34:\n"
    f usr/bin/x 0755 ""
    d usr/lib/old 0755 owner=77:78
"""


class Told(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def check(database: str, text: str, *, ignored: tuple[str, ...] = (), tree: str = TREE) -> list[str]:
    store, told = MemoryStore(), Told()
    reference = Reference(
        key=f"check-{database}",
        database=database,
        source="the previous commit",
        entries=parse_entries(database, text),
        ignored=ignored,
    )
    check_accounts(parse(tree, store), store, [reference], told)
    return told.lines


def test_what_stays_is_fine_and_what_is_new_is_told() -> None:
    assert check("passwd", "root:x:0:0::/:/x\nwww:x:33:34::/:/x\n") == ["new users: new=990"]
    assert check("group", "www:x:34:\n") == []


def test_a_last_line_without_a_newline() -> None:
    """Of an /etc/passwd that was edited after postprocessing."""
    tree = TREE.replace(r'/root:/bin/sh\n"', '/root:/bin/sh"')
    assert tree != TREE
    assert check("passwd", "root:x:0:0::/:/x\nwww:x:33:34::/:/x\nnew:x:990:990::/:/x\n", tree=tree) == []


@pytest.mark.parametrize(
    ("database", "text", "message"),
    [
        ("passwd", "www:x:32:34::/:/x\n", "user www had 32:34 in the previous commit and has 33:34 now"),
        ("passwd", "www:x:33:35::/:/x\n", "user www had 33:35 in the previous commit and has 33:34 now"),
        ("group", "www:x:35:\n", "group www had 35 in the previous commit and has 34 now"),
        (
            "passwd",
            "gone:x:77:1::/:/x\n",
            r"user gone \(77\) of the previous commit is gone, but /usr/lib/old still belongs",
        ),
        ("group", "gone:x:78:\n", r"group gone \(78\) of the previous commit is gone, but /usr/lib/old still belongs"),
    ],
)
def test_drift_is_an_error(database: str, text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        check(database, text)


def test_drifts_are_told_together() -> None:
    with pytest.raises(PolicyError, match="2 accounts") as caught:
        check("passwd", "www:x:1:1::/:/x\ngone:x:77:1::/:/x\n")
    assert len(caught.value.details) == 2


def test_what_owns_nothing_may_go_and_what_is_ignored_too() -> None:
    assert check("group", "lone:x:55:\nwww:x:34:\n") == ["group lone (55) of the previous commit is gone"]
    for ignored in ("gone", ALL):
        assert check("group", "gone:x:78:\nwww:x:34:\n", ignored=(ignored,)) == []


def test_a_user_s_group_counts_only_if_it_is_given() -> None:
    store = MemoryStore()
    reference = Reference(key="check-passwd", database="passwd", source="the treefile", entries={"www": (33,)})
    check_accounts(parse(TREE, store), store, [reference], Reporter())


def test_lines_that_are_no_entries_are_passed_over() -> None:
    assert parse_entries("passwd", "# x\n\na:x:1\nb:x:y:2:\nc:x:1:2::/:/x\nc:x:9:9::/:/x\n") == {"c": (1, 2)}
