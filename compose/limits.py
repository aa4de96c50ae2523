"""Limits of the machine that a program runs into, and how processes end by them."""

from __future__ import annotations

import errno
import signal

LIMITS = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors when a limit on processes, threads, open files or memory is reached."""
LIMITS_HINT = (
    "raise the limits on processes, open files and memory (ulimit -u, -n, -v, or the container's), or use fewer --jobs"
)
OUT_OF_MEMORY = "see the kernel's log (dmesg): if memory ran out, run it again with more of it, or with fewer --jobs"
"""Hint for a process that SIGKILL has ended."""


def signal_name(number: int) -> str:
    """Name a signal for a message: "SIGKILL", or "signal 40" for a real-time signal, most of which have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
