"""The treefile alone, for who asks for no more: it needs none of the stages that follow."""

from __future__ import annotations

import os

from compose.treefile.load import load_treefile


def flattened_treefile(path: str, *, basearch: str | None = None) -> str:
    """What --print-only prints. Raises TreefileError."""
    return load_treefile(path, basearch=basearch or host_basearch()).json


def host_basearch() -> str:
    """RPM base architecture of this machine."""
    machine = os.uname().machine
    return {"i686": "i386", "i586": "i386", "armv7l": "armhfp"}.get(machine, machine)
