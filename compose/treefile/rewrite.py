"""Edits of a treefile's text that keep its comments: `fmt` and `migrate`.

Lines are edited at the places where the parser found keys and values. The new text is then parsed, and returned only if it
means the same as the old one, apart from the intended changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from compose.errors import TreefileError
from compose.treefile.flatten import is_json
from compose.treefile.keys import LEGACY
from compose.treefile.parse import compose_nodes, parse_yaml
from compose.treefile.source import Located, SourceFault

_INDENT = 2
_BLOCK_INDICATOR = re.compile(r"[|>][+-]?[1-9]")
_OTHER_BREAKS = re.compile("\r(?!\n)|[\x85\u2028\u2029]")
_EDITION = "edition"
_2024 = "2024"
OLD_DEFAULTS: Mapping[str, str | bool] = {"boot-location": "new", "tmp-is-dir": False}
"""Defaults of edition 2014 that edition 2024 changes."""

_NEW_DEFAULTS = {"boot-location": "modules", "tmp-is-dir": True}


def format_text(text: str, path: str) -> str:
    """Format a treefile.

    No trailing blanks, LF line ends, at most one empty line in a row, none at either end, and list items of top-level keys
    indented by two. The content of multi-line scalars (scripts) is not touched. Raises TreefileError if the text is not a YAML
    treefile.
    """
    before = _parsed(text, path)
    lines = _lines(text.replace("\r\n", "\n").replace("\r", "\n"), path)
    try:
        lines = _indented(lines, path)
        kept = _inside_scalars("\n".join(lines), path)
    except SourceFault as fault:
        raise _unsafe(path) from fault
    found: list[str] = []
    for number, line in enumerate(lines):
        if number in kept:
            found.append(line)
            continue
        line = line.rstrip()
        if line or (found and found[-1]):
            found.append(line)
    while found and not found[-1].strip():
        found.pop()
    return _checked("\n".join(found) + "\n", before.plain(), path)


def migrate_text(
    text: str, path: str, *, effective: Mapping[str, str | bool] | None = None
) -> tuple[str, tuple[str, ...]]:
    """The text with old spellings of keys replaced, and a line for each that could not be.

    effective: if not None, also change the edition to 2024. It has the flattened treefile's values of the keys in
    OLD_DEFAULTS; those that the file does not set and the edition would change are written out. Raises TreefileError if the
    text is not a YAML treefile.
    """
    before = _parsed(text, path)
    lines = _lines(text, path)
    undone: list[str] = []
    wanted: dict[str, Any] = dict(before.plain())
    for old, new in {**LEGACY, "bootstrap-packages": "packages"}.items():
        value = before.value.get(old)
        if value is None:
            continue
        if new in before.value:
            undone.append(f"{value.place}: {old}: {new} is also given; merge them by hand")
            continue
        line = value.place.line - 1
        column = value.place.column - 1
        lines[line] = lines[line][:column] + lines[line][column:].replace(old, new, 1)
        wanted[new] = wanted.pop(old)
    if effective is not None and str(wanted.get(_EDITION, "2014")) != _2024:
        added = {
            key: value for key, value in effective.items() if key not in wanted and value != _NEW_DEFAULTS.get(key)
        }
        if _EDITION in wanted:
            place = before.value[_EDITION].place
            lines[place.line - 1] = lines[place.line - 1].replace("2014", _2024, 1)
            at = place.line
        else:
            at = min((member.place.line for member in before.value.values()), default=1) - 1
            at = _above_comments(lines, at)
            lines.insert(at, f'{_EDITION}: "{_2024}"')
            at += 1
        lines[at:at] = [
            f"{key}: {json.dumps(value) if isinstance(value, bool) else value}" for key, value in added.items()
        ]
        wanted |= added
        wanted[_EDITION] = _2024
    return _checked("\n".join(lines), wanted, path), tuple(undone)


def _lines(text: str, path: str) -> list[str]:
    """Split into lines as the parser counts them; with CRLF, the CR stays at the end. Raises TreefileError for the other line
    breaks of YAML 1.1 (a lone CR, NEL, the Unicode separators)."""
    if _OTHER_BREAKS.search(text):
        raise TreefileError(f"{path}: has line breaks other than LF and CRLF", hint="compose treefile fmt replaces CR")
    return text.split("\n")


def _above_comments(lines: list[str], at: int) -> int:
    """Where to insert a line before the key at line `at`: above a comment on that key, but below one that begins the file."""
    start = at
    while start > 0 and lines[start - 1].startswith("#"):
        start -= 1
    return start or at


def _parsed(text: str, path: str) -> Located:
    if is_json(path) or path.endswith(".ks"):
        raise TreefileError(f"{path}: not YAML", hint="only YAML treefiles can be rewritten")
    try:
        return parse_yaml(text.encode(), path)
    except SourceFault as fault:
        raise TreefileError(str(fault)) from fault


def _checked(text: str, wanted: Any, path: str) -> str:
    """The text, if its value is the wanted one. Raises TreefileError."""
    try:
        found = parse_yaml(text.encode(), path).plain()
    except SourceFault:
        found = None
    if found != wanted:
        raise _unsafe(path)
    return text


def _unsafe(path: str) -> TreefileError:
    return TreefileError(
        f"{path}: cannot be rewritten without changing its meaning, and is left as it is",
        hint="simplify its YAML (anchors, flow style over several lines), or report it",
    )


def _indented(lines: list[str], path: str) -> list[str]:
    """Indent list items of top-level keys to column 2. A list that contains explicit indentation indicators is left alone."""
    root = compose_nodes("\n".join(lines), path)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return lines
    found = list(lines)
    for key, value in root.value:
        if not isinstance(value, yaml.SequenceNode) or value.flow_style or not value.value or key.start_mark.column:
            continue
        first = value.value[0].start_mark.line
        at = len(lines[first]) - len(lines[first].lstrip())
        shift = _INDENT - at
        # the list ends with its last item; the block's end mark is where the next token begins
        last = _last_line(value)
        block = lines[value.start_mark.line : last + 1]
        if (
            not shift
            or not lines[first].lstrip().startswith("-")
            or any(_BLOCK_INDICATOR.search(line) for line in block)
        ):
            continue
        for number in range(value.start_mark.line, last + 1):
            line = found[number]
            indent = len(line) - len(line.lstrip())
            if not line.strip():
                continue
            if indent + shift < 0:
                # indented less than the list: a comment, or the text of a quoted scalar
                return lines
            found[number] = " " * (indent + shift) + line.lstrip()
    return found


def _last_line(node: Any) -> int:
    """Line of a node's last character, counted from 0."""
    if isinstance(node, yaml.SequenceNode) and node.value:
        return _last_line(node.value[-1])
    if isinstance(node, yaml.MappingNode) and node.value:
        return _last_line(node.value[-1][1])
    end = node.end_mark
    # the end mark of a literal is at the beginning of the next line
    line: int = end.line - 1 if end.column == 0 and end.line > node.start_mark.line else end.line
    return line


def _inside_scalars(text: str, path: str) -> set[int]:
    """Lines, counted from 0, that are the content of multi-line scalars."""
    found: set[int] = set()

    def visit(node: Any) -> None:
        if isinstance(node, yaml.ScalarNode):
            if node.end_mark.line > node.start_mark.line:
                last = node.end_mark.line if node.end_mark.column else node.end_mark.line - 1
                found.update(range(node.start_mark.line + (node.style in ("|", ">")), last + 1))
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                visit(key)
                visit(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                visit(item)

    visit(compose_nodes(text, path))
    return found
