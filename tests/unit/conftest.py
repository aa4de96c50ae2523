"""For the pure tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from compose import syscalls


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What these tests write need not survive a power cut, and fsync also waits for what other programs wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(syscalls, "syncfs", lambda _: None)
        yield
