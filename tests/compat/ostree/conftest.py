"""What a module's directory `nasty` holds, as a tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.tree import Tree
from tests.support.disk import scan_disk


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return BlobStore(str(tmp_path_factory.mktemp("blobs") / "store"))


@pytest.fixture(scope="module")
def tree(nasty: Path, blobs: BlobStore) -> Tree:
    return scan_disk(nasty, blobs)
