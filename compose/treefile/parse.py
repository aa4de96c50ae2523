"""Parses YAML and JSON into values with their place.

YAML has the scalar types null, bool, int, float and str. As for rpm-ostree, whose YAML is 1.2, all that only YAML 1.1 takes for
something else is text: yes, on, 010, 1_000, 12:30. So is 1e5, as in YAML 1.1. JSON is that of RFC 8259.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import yaml

from compose.treefile.source import Located, Place, SourceFault, type_name

_MAX_NODES = 200_000
_MAX_BYTES = 8 << 20
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_SCALARS = {
    "tag:yaml.org,2002:null": _CONSTRUCTOR.construct_yaml_null,
    "tag:yaml.org,2002:bool": _CONSTRUCTOR.construct_yaml_bool,
    "tag:yaml.org,2002:int": _CONSTRUCTOR.construct_yaml_int,
    "tag:yaml.org,2002:float": _CONSTRUCTOR.construct_yaml_float,
    "tag:yaml.org,2002:str": _CONSTRUCTOR.construct_yaml_str,
}
# tag, pattern of an untagged value, and the characters that such a value begins with
_RESOLVED = (
    ("null", r"~|null|Null|NULL", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*|0b[01]+|0x[0-9a-fA-F]+)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?|\.[0-9]+(?:[eE][-+][0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
)
# which no file name, script or metadata can hold
_NUL = "not valid text: a NUL character"
_INFINITE = "not a finite number"
_BLANKS = re.compile(r"[ \t\n\r]*")
# The first only checks the syntax: Python limits the digits of an integer, and its error does not say where that integer is.
_SYNTAX, _VALUES = json.JSONDecoder(parse_int=str), json.JSONDecoder()


Path = tuple[str | int, ...]
"""Keys and indices that lead to a mapping; () for the top one."""

MayRepeat = Callable[[Path, str], bool]
"""Returns whether a key of the mapping at a path may be given more than once, because it is ignored."""


def _never(path: Path, key: str) -> bool:
    return False


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """(tag, pattern) by the first character of a value, "" for an empty one: PyYAML's form."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {"": [("tag:yaml.org,2002:null", re.compile(r"\Z"))]}
    for tag, pattern, first in _RESOLVED:
        for character in first:
            found.setdefault(character, []).append((f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z")))
    return found


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Takes untagged values for what the docstring of this module says."""

    yaml_implicit_resolvers = _resolvers()


def parse_yaml(data: bytes, file: str, *, may_repeat: MayRepeat = _never) -> Located:
    """Parse YAML. Raises SourceFault for a syntax error, a key given twice, an alias bomb, an object tag, a value that is not
    of its tag's type, text with NUL, an infinite number, or a document that is not a mapping."""
    node = compose_nodes(_decode(data, file), file)
    return _top(node, file, may_repeat)


def parse_json(data: bytes, file: str, *, may_repeat: MayRepeat = _never) -> Located:
    """Parse JSON. Raises SourceFault for a syntax error, a key given twice, a value that is not text or a finite number (NUL, a
    lone surrogate, 1e999), or a document that is not a mapping."""
    text = _decode(data, file)
    try:
        _SYNTAX.decode(text)
        found = _JsonReader(text, file, may_repeat).top()
    except json.JSONDecodeError as error:
        hint = "" if text.lstrip().startswith("{") else " (the name of a file in YAML ends in .yaml)"
        raise SourceFault(Place(file, error.lineno, error.colno), f"not JSON: {error.msg}{hint}") from error
    except RecursionError as error:
        raise SourceFault(Place(file, 1, 1), "nested too deeply") from error
    return _mapping_of(found)


def _decode(data: bytes, file: str) -> str:
    if len(data) > _MAX_BYTES:
        raise SourceFault(Place(file), f"larger than {_MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceFault(Place(file, line, 1), "not UTF-8") from error


def compose_nodes(text: str, file: str) -> Any:
    """Parse YAML into PyYAML's node graph, whose marks are needed to edit the text. Raises SourceFault."""
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        raise SourceFault(place, f"not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SourceFault(Place(file, line, 1), f"not YAML: {error.reason}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SourceFault(Place(file), f"not YAML: {error}") from error


def _top(node: Any, file: str, may_repeat: MayRepeat) -> Located:
    if node is None:
        raise SourceFault(Place(file, 1, 1), "the file is empty; it must be a mapping of keys to values")
    try:
        found = _Converter(file, may_repeat).convert(node, ())
    except RecursionError as error:
        raise SourceFault(Place(file, 1, 1), "nested too deeply") from error
    return _mapping_of(found)


def _mapping_of(found: Located) -> Located:
    if not isinstance(found.value, dict):
        raise SourceFault(found.place, f"the file must be a mapping of keys to values, not {type_name(found.value)}")
    return found


class _Converter:
    def __init__(self, file: str, may_repeat: MayRepeat) -> None:
        self._file = file
        self._may_repeat = may_repeat
        self._nodes = 0

    def convert(self, node: Any, path: Path) -> Located:
        # nodes that aliases repeat count each time, so that a small file cannot become a huge value
        self._nodes += 1
        place = self._place(node)
        if self._nodes > _MAX_NODES:
            raise SourceFault(place, "too many values")
        if isinstance(node, yaml.SequenceNode):
            return Located([self.convert(item, (*path, index)) for index, item in enumerate(node.value)], place)
        if isinstance(node, yaml.MappingNode):
            return Located(self._mapping(node, path), place)
        if "\0" in node.value:
            raise SourceFault(place, _NUL)
        construct = _SCALARS.get(node.tag)
        if construct is None:
            raise SourceFault(place, f"{node.tag} is not a plain value")
        try:
            value = construct(node)
        except (ValueError, LookupError, yaml.YAMLError) as error:
            # LookupError: of PyYAML, for "!!bool maybe" and "!!int ''"
            raise SourceFault(place, f"not a valid value: {node.value!r}") from error
        if isinstance(value, float) and not math.isfinite(value):
            # which JSON cannot hold
            raise SourceFault(place, _INFINITE)
        return Located(value, place)

    def _mapping(self, node: Any, path: Path) -> dict[str, Located]:
        found: dict[str, Located] = {}
        for key, value in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                raise SourceFault(place, "a key must be text")
            if "\0" in key.value:
                raise SourceFault(place, _NUL)
            if key.value in found and not self._may_repeat(path, key.value):
                raise SourceFault(place, f"{key.value}: given twice, first at {found[key.value].place}")
            found[key.value] = Located(self.convert(value, (*path, key.value)).value, place)
        return found

    def _place(self, node: Any) -> Place:
        return Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)


class _JsonReader:
    """Reads text that is known to be valid JSON, value by value, keeping the place of each."""

    def __init__(self, text: str, file: str, may_repeat: MayRepeat) -> None:
        self._text = text
        self._file = file
        self._may_repeat = may_repeat
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._values = 0

    def top(self) -> Located:
        return self._value(self._skip(0), ())[0]

    def _value(self, at: int, path: Path) -> tuple[Located, int]:
        """The value that begins at an offset, and the offset of its end."""
        self._values += 1
        if self._values > _MAX_NODES:
            raise SourceFault(self._place(at), "too many values")
        found: Any
        if self._text[at] == "{":
            found, end = self._members(at, path)
        elif self._text[at] == "[":
            found, end = self._items(at, path)
        else:
            found, end = self._scalar(at)
        return Located(found, self._place(at)), end

    def _items(self, at: int, path: Path) -> tuple[list[Located], int]:
        found: list[Located] = []
        at = self._skip(at + 1)
        while self._text[at] != "]":
            item, end = self._value(at, (*path, len(found)))
            found.append(item)
            at = self._past(end, ",")
        return found, at + 1

    def _members(self, at: int, path: Path) -> tuple[dict[str, Located], int]:
        found: dict[str, Located] = {}
        at = self._skip(at + 1)
        while self._text[at] != "}":
            place = self._place(at)
            key, end = self._scalar(at)
            if key in found and not self._may_repeat(path, key):
                raise SourceFault(place, f"{key}: given twice, first at {found[key].place}")
            value, end = self._value(self._past(end, ":"), (*path, key))
            found[key] = Located(value.value, place)
            at = self._past(end, ",")
        return found, at + 1

    def _scalar(self, at: int) -> tuple[Any, int]:
        try:
            found, end = _VALUES.raw_decode(self._text, at)
        except ValueError as error:
            raise SourceFault(self._place(at), "a number with too many digits") from error
        if isinstance(found, float) and not math.isfinite(found):
            # NaN and Infinity, which Python accepts in JSON, or 1e999
            raise SourceFault(self._place(at), _INFINITE)
        if isinstance(found, str) and not found.isascii():
            try:
                found.encode()
            except UnicodeEncodeError as error:
                raise SourceFault(self._place(at), "not valid text: a lone surrogate") from error
        if isinstance(found, str) and "\0" in found:
            raise SourceFault(self._place(at), _NUL)
        return found, end

    def _past(self, at: int, mark: str) -> int:
        """Offset of the next token, skipping the punctuation `mark` if it comes next."""
        at = self._skip(at)
        return self._skip(at + 1) if self._text[at] == mark else at

    def _skip(self, at: int) -> int:
        match = _BLANKS.match(self._text, at)
        assert match is not None
        return match.end()

    def _place(self, at: int) -> Place:
        line = bisect_right(self._lines, at)
        return Place(self._file, line, at - self._lines[line - 1] + 1)
