"""What can go wrong while the universe is made."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence


class UniverseError(Exception):
    """The message names the package, file or program, and says what it did."""


def run(command: Sequence[str], *, what: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Raises UniverseError with the end of its output if it fails or is absent; what: the thing it is run for.
    """
    try:
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UniverseError(f"{what}: no {command[0]} here") from None
    if done.returncode:
        raise UniverseError(f"{what}: {command[0]} ended with {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return done
