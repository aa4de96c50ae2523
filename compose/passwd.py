"""passwd(5), group(5) and shadow(5): files of entries, whose fields are separated by colons."""

from __future__ import annotations

_MAX_DIGITS = 10


def entries(text: str) -> list[list[str]]:
    """The fields of each entry. As for getpwent(3), a line ends at a newline only, not at characters such as U+0085, and those
    that begin with "#", "+" or "-" (comments, and references to NIS) are none."""
    return [line.split(":") for line in text.split("\n") if line and line[0] not in "#+-"]


def parse_id(text: str) -> int | None:
    """Parse a decimal number, at most as long as a 32-bit one, such as a uid or gid; None if the text is not one."""
    return int(text) if len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit() else None
