"""Markdown for pull requests, step summaries and release notes.

Text may come from packages, so it is escaped: none of it becomes markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby


def code(text: str) -> str:
    """Inline code; safe in a table."""
    plain = " ".join(text.split()).replace("|", "\\|")
    ticks = "`" * (_longest_run(plain) + 1)
    pad = " " if len(ticks) > 1 else ""
    return f"{ticks}{pad}{plain}{pad}{ticks}" if plain else ""


def fenced(lines: Iterable[str], language: str = "") -> list[str]:
    """Lines of a code block."""
    body = list(lines)
    fence = "`" * max(3, *(_longest_run(line) + 1 for line in body), 3)
    return [f"{fence}{language}", *body, fence]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; cells are markdown already."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def folded(summary: str, lines: Iterable[str]) -> list[str]:
    """Lines of a collapsed section. summary: plain text; lines: markdown."""
    escaped = summary.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return [f"<details><summary>{escaped}</summary>", "", *lines, "", "</details>", ""]


def _longest_run(text: str) -> int:
    return max((len(list(run)) for char, run in groupby(text) if char == "`"), default=0)
