"""Commands that need only the treefile, and none of the stages."""

from __future__ import annotations

from compose.architecture import host_basearch
from compose.treefile.load import load_treefile


def flattened_treefile(path: str, *, basearch: str | None = None) -> str:
    """The treefile with its includes merged, as --print-only prints it. Raises TreefileError."""
    return load_treefile(path, basearch=basearch or host_basearch()).json
