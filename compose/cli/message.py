"""What a user is told about an error."""

from __future__ import annotations

from compose.errors import ComposeError


def describe(error: ComposeError) -> str:
    """Message, details indented, the way out."""
    lines = [f"error: {error.message}"]
    lines += [f"  {line}" for line in error.details]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)
