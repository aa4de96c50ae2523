"""Run a command under a seccomp filter, as in a container: python3 -m tests.support.refusing ERRNO CALL... -- COMMAND."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path

from compose.sandbox import kernel
from compose.sandbox.seccomp import Rule, filter_for


def number_of(call: str) -> int:
    """On this machine, from the kernel's headers."""
    machine = os.uname().machine
    for name in (f"{machine}-linux-gnu/asm/unistd_64.h", "asm/unistd_64.h"):
        path = Path("/usr/include") / name
        if path.exists() and (found := re.search(rf"^#define __NR_{call}\s+(\d+)", path.read_text(), re.MULTILINE)):
            return int(found[1])
    raise SystemExit(f"no kernel headers, or no system call {call}")


def main() -> None:
    answer, *words = sys.argv[1:]
    split = words.index("--")
    rules = []
    for call in words[:split]:
        number = number_of(call)
        rules.append(Rule(call=call, numbers=(number,) * 5, answer=getattr(errno, answer)))
    program = filter_for(os.uname().machine, rules)
    assert program is not None
    kernel.filter_system_calls(program)
    os.execvp(words[split + 1], words[split + 1 :])


if __name__ == "__main__":
    main()
