"""YAML is read as rpm-ostree reads it: what only YAML 1.1 takes for a value of another type is text."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from compose.treefile.parse import parse_yaml
from compose.treefile.source import SourceFault


def value_of(text: str) -> Any:
    return parse_yaml(f"a: {text}\n".encode(), "x.yaml").plain()["a"]


@pytest.mark.parametrize("text", ["yes", "No", "on", "OFF", "y", "N", "010", "08", "1_0", "1_0.5", "12:30", "1:2.5"])
def test_text(text: str) -> None:
    assert value_of(text) == text


@pytest.mark.parametrize("text", ["2024-01-01", "2024-01-01T10:00:00Z", "=", "<<", "1e5", "0o17", "0b", "0x", "."])
def test_further_text(text: str) -> None:
    assert value_of(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("", None),
        ("~", None),
        ("Null", None),
        ("0", 0),
        ("-12", -12),
        ("+43", 43),
        ("0x1F", 31),
        ("0b11", 3),
        ("1.50", 1.5),
        (".5", 0.5),
        ("08.5", 8.5),
        ("1.0e+3", 1000.0),
        ("!!str 10", "10"),
        ("'true'", "true"),
    ],
)
def test_values(text: str, value: Any) -> None:
    found = value_of(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("text", ["-.inf", ".NaN", "1.0e+999"])
def test_what_json_cannot_hold(text: str) -> None:
    with pytest.raises(SourceFault, match=r"x\.yaml:1:4: not a finite number"):
        value_of(text)


def test_the_loader_of_others_is_as_before() -> None:
    assert yaml.safe_load("a: yes") == {"a": True}
