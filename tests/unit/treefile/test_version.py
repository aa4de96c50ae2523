"""Automatic versions."""

from __future__ import annotations

import pytest

from compose.treefile.version import next_version, unknown_tags

NOW = 1700000000  # 2023-11-14


@pytest.mark.parametrize(
    ("prefix", "last", "expected"),
    [
        ("10", None, "10"),
        ("10", "10", "10.1"),
        ("10", "10.1", "10.2"),
        ("10", "10.1.5", "10.2"),
        ("10", "9.7", "10"),
        ("10", "10001", "10"),
        ("10", "10x.1", "10"),
        ("10.<date:%Y%m%d>", None, "10.20231114.0"),
        ("10.<date:%Y%m%d>", "10.20231113.4", "10.20231114.0"),
        ("10.<date:%Y%m%d>", "10.20231114.0", "10.20231114.1"),
        ("10.<date:%Y%m%d>", "10.20231114", "10.20231114.0"),
    ],
)
def test_next_version(prefix: str, last: str | None, expected: str) -> None:
    assert next_version(prefix, ".", last, NOW) == expected


def test_separator() -> None:
    assert next_version("10", "-", "10-1", NOW) == "10-2"


def test_unknown_tags() -> None:
    assert unknown_tags("<date:%Y><time:x>.<b>") == ["<time:x>"]
