"""RPM base architectures: this machine's, and those of which it runs programs."""

from __future__ import annotations

import os

_ALSO_RUNS = {"x86_64": "i386", "aarch64": "armhfp", "ppc64": "ppc", "s390x": "s390"}
"""Other architectures whose programs a kernel runs."""


def host_basearch() -> str:
    """RPM base architecture of this machine."""
    machine = os.uname().machine
    return {"i686": "i386", "i586": "i386", "armv7l": "armhfp"}.get(machine, machine)


def foreign(basearch: str) -> str | None:
    """The architecture, if only an emulator could run its programs on this machine; None if the kernel does."""
    host = host_basearch()
    return None if basearch in (host, _ALSO_RUNS.get(host)) else basearch
