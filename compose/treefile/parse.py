"""Text to values that know where they stand.

YAML is read as YAML 1.1 safe scalars; JSON must be JSON, and gets its places from the same reader.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from compose.treefile.source import Located, Place, SourceFault, type_name

_MAX_NODES = 200_000
_MAX_BYTES = 8 << 20
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_SCALARS = {
    "tag:yaml.org,2002:null": _CONSTRUCTOR.construct_yaml_null,
    "tag:yaml.org,2002:bool": _CONSTRUCTOR.construct_yaml_bool,
    "tag:yaml.org,2002:int": _CONSTRUCTOR.construct_yaml_int,
    "tag:yaml.org,2002:float": _CONSTRUCTOR.construct_yaml_float,
    "tag:yaml.org,2002:str": _CONSTRUCTOR.construct_yaml_str,
}


def parse_yaml(data: bytes, file: str) -> Located:
    """Read YAML. Raises SourceFault for syntax, a key given twice, an alias bomb, an object tag, or no mapping."""
    node = compose_nodes(_decode(data, file), file)
    return _top(node, file)


def parse_json(data: bytes, file: str) -> Located:
    """Read JSON. Raises SourceFault."""
    text = _decode(data, file)
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceFault(Place(file, error.lineno, error.colno), f"not JSON: {error.msg}") from error
    except RecursionError as error:
        raise SourceFault(Place(file, 1, 1), "nested too deeply") from error
    # what is JSON is YAML too, but for tabs between values
    return _top(compose_nodes(text.replace("\t", " "), file), file)


def _decode(data: bytes, file: str) -> str:
    if len(data) > _MAX_BYTES:
        raise SourceFault(Place(file), f"larger than {_MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceFault(Place(file, line, 1), "not UTF-8") from error


def compose_nodes(text: str, file: str) -> Any:
    """PyYAML's node graph, which has the marks that edits of the text need. Raises SourceFault."""
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


def _top(node: Any, file: str) -> Located:
    if node is None:
        raise SourceFault(Place(file, 1, 1), "the file is empty; a treefile is a mapping of keys to values")
    try:
        found = _Converter(file).convert(node)
    except RecursionError as error:
        raise SourceFault(Place(file, 1, 1), "nested too deeply") from error
    if not isinstance(found.value, dict):
        raise SourceFault(found.place, f"a treefile is a mapping of keys to values, not {type_name(found.value)}")
    return found


class _Converter:
    def __init__(self, file: str) -> None:
        self._file = file
        self._nodes = 0

    def convert(self, node: Any) -> Located:
        # counts what aliases repeat, so that a small file cannot become a huge value
        self._nodes += 1
        place = self._place(node)
        if self._nodes > _MAX_NODES:
            raise SourceFault(place, "too many values")
        if isinstance(node, yaml.SequenceNode):
            return Located([self.convert(each) for each in node.value], place)
        if isinstance(node, yaml.MappingNode):
            return Located(self._mapping(node), place)
        construct = _SCALARS.get(node.tag)
        if construct is None:
            # dates and the like: what rpm-ostree takes for text
            if not node.tag.startswith("tag:yaml.org,2002:timestamp"):
                raise SourceFault(place, f"{node.tag} is not a plain value")
            construct = _CONSTRUCTOR.construct_yaml_str
        try:
            return Located(construct(node), place)
        except (ValueError, yaml.YAMLError) as error:
            raise SourceFault(place, f"not a value: {node.value!r}") from error

    def _mapping(self, node: Any) -> dict[str, Located]:
        found: dict[str, Located] = {}
        for key, value in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                raise SourceFault(place, "a key must be text")
            if key.value in found:
                raise SourceFault(place, f"{key.value}: given twice, first at {found[key.value].place}")
            found[key.value] = Located(self.convert(value).value, place)
        return found

    def _place(self, node: Any) -> Place:
        return Place(self._file, node.start_mark.line + 1, node.start_mark.column + 1)
