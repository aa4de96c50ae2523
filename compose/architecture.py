"""RPM base architectures: this machine's, and those of which it runs programs."""

from __future__ import annotations

import os

# from the table in libdnf5/rpm/arch.cpp
BASE_ARCHES = frozenset(
    {
        "aarch64", "alpha", "arm", "armhfp", "e2k", "i386", "ia64", "loongarch64", "mips", "mipsel", "mips64", "mips64el",
        "noarch", "ppc", "ppc64", "ppc64le", "riscv32", "riscv64", "riscv128", "s390", "s390x", "sh3", "sh4", "sparc", "x86_64",
    }
)  # fmt: skip
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
