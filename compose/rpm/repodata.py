"""Repodata of a directory of RPMs, made by createrepo_c."""

from __future__ import annotations

import os
import shutil
import subprocess

from compose.errors import StorageError, UsageError

_PROGRAM = "createrepo_c"
_OUTPUT_SHOWN = 20


def require_program() -> None:
    """Raises UsageError unless createrepo_c is installed."""
    if shutil.which(_PROGRAM) is None:
        raise UsageError(
            f"{_PROGRAM} is not installed, but is needed to make a package repository", hint=f"install {_PROGRAM}"
        )


def write_repodata(directory: str) -> None:
    """Make or update the repodata; RPMs that it lists already are not read again. One process may do so at a time.

    It is replaced by rename, so that readers see the old or the new one. Raises StorageError with the output of createrepo_c.
    """
    done = subprocess.run(
        [_PROGRAM, "--update", "--quiet", "--", os.path.abspath(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise StorageError(
            f"{_PROGRAM} failed in {directory} with exit code {done.returncode}",
            details=done.stdout.splitlines()[-_OUTPUT_SHOWN:],
        )
