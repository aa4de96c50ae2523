"""Writes and parses lines of tmpfiles.d(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from compose.tree import Entry

# Types that create their path; others adjust, clean or remove existing ones.
_CREATING = frozenset("dDvqQfFLpcbC")
_WORD = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:\\.|[^\s"'\\])+)""", re.ASCII)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{3}|.)", re.DOTALL)
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "s": " "}


def line_for(path: str, entry: Entry, user: str, group: str) -> str:
    """The line that creates an entry at an absolute path: a directory, a symlink or an empty file."""
    field = escape(path)
    if entry.target is not None:
        return f"L {field} - - - - {escape(entry.target)}"
    kind = "d" if entry.is_dir else "f"
    return f"{kind} {field} {entry.permissions:04o} {user} {group} - -"


def escape(text: str) -> str:
    r"""Escape a field: percent signs are doubled; blanks, quotes, backslashes and control characters become \xNN."""
    return "".join(
        "%%"
        if char == "%"
        else f"\\x{ord(char):02x}"
        if char in " \"'\\" or ord(char) < 0x20 or char == "\x7f"
        else char
        for char in text
    )


def created_paths(text: str) -> Iterator[str]:
    """Absolute paths that the text of a tmpfiles.d file creates, without trailing slashes."""
    return (path for kind, path in paths(text) if kind in _CREATING)


def paths(text: str) -> Iterator[tuple[str, str]]:
    """(type letter, absolute path without trailing slashes) of each line in the text of a tmpfiles.d file."""
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        words = [match[1] for match in islice(_WORD.finditer(line), 2)]
        if len(words) == 2:
            yield words[0][0], re.sub("/+", "/", _unescape(words[1])).rstrip("/")


def _unescape(word: str) -> str:
    if word[0] in "\"'":
        word = word[1:-1]
    return _ESCAPE.sub(_unescaped, word).replace("%%", "%")


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) == 3:
        return chr(int(code[1:], 16))
    if len(code) == 3:
        return chr(int(code, 8))
    return _NAMED.get(code, code)
