"""Refs that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.errors import RepositoryError
from compose.ostree.repo import Repo


@pytest.mark.parametrize("name", ["refs/heads/loop", "refs/heads"])
def test_a_ref_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        path = Path(repo.path, name)
        if path.is_dir():
            path.rmdir()
        path.symlink_to(path.name)
        with pytest.raises(RepositoryError, match=f"cannot read {path}: {os.strerror(40)}"):
            repo.refs()
