"""Numbers of system calls, compared with the kernel's headers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from compose.sandbox.lookups import CALLS, NUMBERS, UNTRACEABLE
from compose.sandbox.seccomp import DENIED

DENIED_COLUMN = {"x86_64": 0, "i386": 1, "aarch64": 2, "riscv64": 2, "ppc64le": 3, "s390x": 4}
LOOKUP_COLUMN = {"x86_64": 0, "aarch64": 1, "riscv64": 1, "ppc64le": 2, "s390x": 3}
# where Debian's linux-libc-dev has those of all machines, and where each distribution has those of its own
HEADERS = {
    "x86_64": "linux/uapi/x86/asm/unistd_64.h",
    "i386": "linux/uapi/x86/asm/unistd_32.h",
    "aarch64": "linux/uapi/arm64/asm/unistd_64.h",
    "riscv64": "linux/uapi/riscv/asm/unistd_64.h",
    "ppc64le": "linux/uapi/powerpc/asm/unistd_64.h",
    "s390x": "linux/uapi/s390/asm/unistd_64.h",
}


def headers(machine: str) -> dict[str, int]:
    """Numbers by name."""
    places = [Path("/usr/lib") / HEADERS[machine]]
    if machine == os.uname().machine:
        places.append(Path("/usr/include/asm/unistd_64.h"))
    for place in places:
        if place.exists():
            found = re.findall(r"^#define __NR_(\w+)\s+(\d+)", place.read_text(), re.MULTILINE)
            return {name: int(number) for name, number in found}
    pytest.skip("no kernel headers for it here")


@pytest.mark.parametrize("machine", DENIED_COLUMN)
def test_what_is_denied(machine: str) -> None:
    known, column = headers(machine), DENIED_COLUMN[machine]
    # a call may be denied by several rules, each for some machines
    for call in {rule.call for rule in DENIED}:
        numbers = {rule.numbers[column] for rule in DENIED if rule.call == call} - {None}
        assert numbers == ({known[call]} if call in known else set()), call


@pytest.mark.parametrize("machine", LOOKUP_COLUMN)
def test_what_looks_up_a_path(machine: str) -> None:
    known, column = headers(machine), LOOKUP_COLUMN[machine]
    if machine == "riscv64":
        # its predecessor on the other machines with these numbers
        known["renameat"] = 38
    for call, numbers in NUMBERS.items():
        # headers older than a call do not have it
        assert numbers[column] == known.get(
            call, numbers[column] if call.startswith(("file_", "open_tree")) else None
        ), call


def test_each_call_has_a_number() -> None:
    assert set(NUMBERS) == set(CALLS) | UNTRACEABLE
