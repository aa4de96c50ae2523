"""Two repositories, and keys to sign with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rpmrepo
from tests.support.publication import make


@pytest.fixture(scope="module")
def keys() -> Iterator[rpmrepo.Keys]:
    """GNUPGHOME with the keys "builder" and "other"."""
    with rpmrepo.keyring("builder", "other") as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make(tmp_path / "build")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return make(tmp_path / "srv")
