"""What packagers wrote between two builds."""

from __future__ import annotations

import pytest

from compose.rpm.changelog import new_entries
from compose.rpm.database import ChangelogEntry


def entries(names):
    return tuple(ChangelogEntry(time=ord(name), author=name, text=name) for name in names)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("cba", "edcba", "ed"),
        # the old end is cut off
        ("cba", "edc", "ed"),
        ("cba", "cba", ""),
        # another branch: down to where they meet
        ("xba", "edba", "ed"),
        ("", "ba", "ba"),
        ("ba", "", ""),
    ],
)
def test_new_entries(before, after, expected):
    assert new_entries(entries(before), entries(after)) == entries(expected)
