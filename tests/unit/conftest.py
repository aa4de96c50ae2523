"""For the pure tests."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose import syscalls

_HERE = Path(__file__).parent
_MEMORY = "/dev/shm"
_ROOM = 1 << 30

# as for the program itself: it traverses what was imported again and again
gc.set_threshold(100_000)


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary directories in memory if these tests run alone: to remove thousands of them from a disk takes as long as
    the tests."""
    chosen = [Path(each.partition("::")[0]).resolve() for each in config.args]
    if all(each.is_relative_to(_HERE) for each in chosen) and _is_of_use(_MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)


def _is_of_use(directory: str) -> bool:
    """Whether there is room in it, and user xattrs, which a tmpfs has since Linux 6.6."""
    try:
        status = os.statvfs(directory)
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            os.setxattr(file.name, "user.compose", b"x")
    except OSError:
        return False
    return status.f_bavail * status.f_frsize > _ROOM


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What these tests write need not survive a power cut, and fsync also waits for what other programs wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(syscalls, "syncfs", lambda _: None)
        yield
