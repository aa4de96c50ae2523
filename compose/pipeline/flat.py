"""Commands that need only the treefile, and none of the stages."""

from __future__ import annotations

import os

from compose.treefile.load import load_treefile


def flattened_treefile(path: str, *, basearch: str | None = None) -> str:
    """The treefile with its includes merged, as --print-only prints it. Raises TreefileError."""
    return load_treefile(path, basearch=basearch or host_basearch()).json


def host_basearch() -> str:
    """RPM base architecture of this machine."""
    machine = os.uname().machine
    return {"i686": "i386", "i586": "i386", "armv7l": "armhfp"}.get(machine, machine)
