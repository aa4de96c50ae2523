"""Tokenizer of rich dependencies, "(a or b)", "(a >= 1 if b else c)" (rpm's docs/manual/boolean_dependencies.md)."""

from __future__ import annotations

import re

_WORDS = re.compile(r"[()]|[^\s()]+(?:\([^\s()]*\))*")


def rich_words(dependency: str) -> list[str]:
    """Split a dependency into parentheses, operators, names, comparisons and versions."""
    return _WORDS.findall(dependency)
