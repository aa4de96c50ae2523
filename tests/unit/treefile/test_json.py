"""JSON is parsed as the standard json module does, and every value has its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.treefile import parse
from compose.treefile.parse import parse_json, parse_yaml
from compose.treefile.source import Located, Place, SourceFault

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(texts, values, max_size=4), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_as_json_has_it(value: dict[str, Any], ascii_only: bool, indent: int | str | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    found = parse_json(text.encode(), "x.json")
    assert json.dumps(found.plain()) == json.dumps(value)
    for place in places(found):
        line = text.split("\n")[place.line - 1]
        assert line[place.column - 1] not in " \t,:"


def places(found: Located) -> list[Place]:
    inner: list[Located] = []
    if isinstance(found.value, dict | list):
        inner = list(found.value.values()) if isinstance(found.value, dict) else found.value
    return [found.place, *(place for each in inner for place in places(each))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00"', "\N{GRINNING FACE}"),
        ("1e5", 1e5),
        ("-1E-2", -0.01),
        ("0", 0),
        ("12345678901234567890", 12345678901234567890),
        (r'"\/\u0041\n"', "/A\n"),
        ('"yes"', "yes"),
        ('"1:20"', "1:20"),
        ('"\x7f\ufffe"', "\x7f\ufffe"),
    ],
)
def test_values(text: str, value: Any) -> None:
    found = parse_json(f'{{"a": {text}}}'.encode(), "x.json").plain()["a"]
    assert (type(found), found) == (type(value), value)


def test_places_are_those_of_yaml() -> None:
    text = '{\n  "a": [1, {"é": "ü",\r\n "c" : [ ] }],\n\n "d": {},  "e":\n null}'
    assert parse_json(text.encode(), "x") == parse_yaml(text.encode(), "x")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": 1,\n "a": 2}', "x.json:2:2: a: given twice, first at x.json:1:2"),
        ('{"a": [{"b": 1, "#": 1,\n "#": 2}]}', "x.json:2:2: #: given twice, first at x.json:1:17"),
        (r'{"a": "b\u0000"}', "x.json:1:7: not valid text: a NUL character"),
        (r'{"a": "\ud83d"}', "x.json:1:7: not valid text: a lone surrogate"),
        (r'{"\ude00": 1}', "x.json:1:2: not valid text: a lone surrogate"),
        ('{"a": [1,\nNaN]}', "x.json:2:1: not a finite number"),
        ('{"a": -Infinity}', "x.json:1:7: not a finite number"),
        ('{"a": 1e999}', "x.json:1:7: not a finite number"),
        (f'{{"a": {"1" * 5000}}}', "x.json:1:7: a number with too many digits"),
        ('{"a": 1,}', "x.json:1:"),
        ('{"a": 1} x', "x.json:1:10: not JSON: Extra data"),
        ('{"a": "\n"}', "x.json:1:8: not JSON: Invalid control character"),
        ("", "x.json:1:1: not JSON: Expecting value"),
        ("ref: a\n", "x.json:1:1: not JSON: Expecting value (the name of a file in YAML ends in .yaml)"),
        (" [1]", "x.json:1:2: the file must be a mapping of keys to values, not a list"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "x.json:1:1: nested too deeply"),
    ],
)
def test_faults(text: str, complaint: str) -> None:
    with pytest.raises(SourceFault) as caught:
        parse_json(text.encode(), "x.json", may_repeat=lambda path, key: key == "#" and not path)
    assert complaint in str(caught.value)


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "_MAX_NODES", 1000)
    assert parse_json(b'{"a": [%b1]}' % (b"1," * 997), "x")
    with pytest.raises(SourceFault, match="too many values"):
        parse_json(b'{"a": [%b1]}' % (b"1," * 998), "x")


def test_comments_may_come_again() -> None:
    text = b'{"#": 1, "a": [{"#": 1, "b": 2, "#": 3}], "#": 3}'
    for read in (parse_json, parse_yaml):
        found = read(text, "x", may_repeat=lambda path, key: key == "#" and path in ((), ("a", 0)))
        assert found.plain() == {"#": 3, "a": [{"#": 3, "b": 2}]}
        with pytest.raises(SourceFault, match=r"x:1:\d+: #: given twice"):
            read(text, "x", may_repeat=lambda path, key: key == "#" and path == ())
