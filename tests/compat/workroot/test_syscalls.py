"""Numbers of system calls, compared with the kernel's headers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from compose.sandbox.seccomp import DENIED, Rule

HEADERS = (
    ("x86_64-linux-gnu/asm/unistd_64.h", 0),
    ("x86_64-linux-gnu/asm/unistd_32.h", 1),
    ("aarch64-linux-gnu/asm/unistd_64.h", 2),
    ("riscv64-linux-gnu/asm/unistd_64.h", 2),
    ("powerpc64le-linux-gnu/asm/unistd_64.h", 3),
    ("s390x-linux-gnu/asm/unistd_64.h", 4),
    # where a distribution has those of its own machine only
    ("asm/unistd_64.h", {"x86_64": 0, "ppc64le": 3, "s390x": 4}.get(os.uname().machine, 2)),
)


@pytest.mark.parametrize("rule", DENIED, ids=lambda rule: rule.call)
def test_numbers(rule: Rule) -> None:
    seen = 0
    for name, column in HEADERS:
        path = Path("/usr/include") / name
        if not path.exists():
            continue
        seen += 1
        found = re.search(rf"^#define __NR_{rule.call}\s+(\d+)", path.read_text(), re.MULTILINE)
        number = int(found[1]) if found else None
        others = {each.numbers[column] for each in DENIED if each.call == rule.call}
        assert number in others, name
    if not seen:
        pytest.skip("no kernel headers here")
