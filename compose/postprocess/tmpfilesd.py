"""Lines of tmpfiles.d(5), written and read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compose.tree import Entry

# Types that make the path they name; others adjust, clean or remove what exists.
_CREATING = frozenset("dDvqQfFLpcbC")
_WORD = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:\\.|[^\s"'\\])+)""", re.ASCII)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{3}|.)", re.DOTALL)
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "s": " "}


def line_for(path: str, entry: Entry, user: str, group: str) -> str:
    """The line that makes an entry at an absolute path: a directory, a symlink or an empty file."""
    where = escape(path)
    if entry.target is not None:
        return f"L {where} - - - - {escape(entry.target)}"
    kind = "d" if entry.is_dir else "f"
    return f"{kind} {where} {entry.permissions:04o} {user} {group} - -"


def escape(text: str) -> str:
    r"""A field as tmpfiles.d wants it: specifiers doubled, blanks, quotes and control characters as \xNN."""
    return "".join(
        "%%"
        if char == "%"
        else f"\\x{ord(char):02x}"
        if char in " \"'\\" or ord(char) < 0x20 or char == "\x7f"
        else char
        for char in text
    )


def created_paths(text: str) -> Iterator[str]:
    """Absolute paths that the lines of a tmpfiles.d file make, without a slash at the end."""
    return (path for kind, path in paths(text) if kind in _CREATING)


def paths(text: str) -> Iterator[tuple[str, str]]:
    """(type, absolute path) of the lines of a tmpfiles.d file; the type is one letter, the path has no slash at the end."""
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        words = [match[1] for match in _WORD.finditer(line)][:2]
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
