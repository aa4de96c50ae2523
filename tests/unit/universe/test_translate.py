"""Debian's relations and versions said in RPM's syntax."""

from __future__ import annotations

import pytest

from tests.universe.errors import UniverseError
from tests.universe.translate import evr, relation, relations


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.41-12", "2.41-12"),
        ("1:9.1.1230-2", "1:9.1.1230-2"),
        ("0:1-1", "1-1"),
        ("1.0", "1.0"),
        ("1.2-3-4", "1.2_3-4"),
        ("1:4.16.0-2+really2.41-5", "1:4.16.0_2+really2.41-5"),
        ("6.12.117-1~deb13u1", "6.12.117-1~deb13u1"),
    ],
)
def test_versions(version: str, expected: str) -> None:
    assert str(evr(version)) == expected


@pytest.mark.parametrize(
    ("debian", "expected"),
    [
        ("bash", "bash"),
        ("python3:any", "python3"),
        ("bash (>= 5.2-1)", "bash >= 5.2-1"),
        ("bash (<< 5.2-1)", "bash < 5.2-1"),
        # to dpkg 2.41-12 is above 2.41, to rpm the two are equal
        ("libc-bin (>> 2.41)", "libc-bin > 2.41-0"),
        ("git (<< 1:2.47.3-.)", "git < 1:2.47.3-99999999"),
        ("x [linux-any] <!nocheck>", "x"),
    ],
)
def test_relations(debian: str, expected: str) -> None:
    assert relation(debian) == expected


def test_alternatives_are_rich_and_what_is_not_needed_goes() -> None:
    text = "debconf (>= 0.5) | debconf-2.0, awk | mawk (>= 1),\n libc6"
    assert relations(text, without={"debconf-2.0"}) == ["(awk or mawk >= 1)", "libc6"]
    assert relations(None) == []


def test_what_is_no_relation_is_named() -> None:
    with pytest.raises(UniverseError, match=r"a \$\{b\}"):
        relation("a ${b}")
