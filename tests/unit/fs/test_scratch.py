"""Directories beside what is made in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.errors import StorageError
from compose.scratch import directory_beside


def test_a_directory_beside_a_path_is_removed_though_its_process_was_killed(tmp_path: Path) -> None:
    killed = tmp_path / ".new-killed"
    killed.mkdir()
    (killed / "part").touch()
    (tmp_path / ".newer").mkdir()
    with directory_beside(str(tmp_path / "file"), ".new-") as first:
        assert not killed.exists()
        with directory_beside(str(tmp_path / "file"), ".new-") as second:
            # whoever lives keeps what is theirs
            assert sorted(os.listdir(tmp_path)) == sorted([".newer", os.path.basename(first), os.path.basename(second)])
    assert os.listdir(tmp_path) == [".newer"]


def test_a_directory_beside_what_has_no_place(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "file")
    with pytest.raises(StorageError, match=f"cannot write {path}"), directory_beside(path, ".new-"):
        pass
