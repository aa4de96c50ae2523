"""Repositories and objects that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from tests.support.commits import Item, write_commit, write_nested


def test_a_directory_in_the_place_of_the_config(tmp_path: Path) -> None:
    Repo.create(str(tmp_path)).__exit__()
    config = tmp_path / "config"
    config.unlink()
    config.mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(RepositoryError) as caught:
        Repo.open(str(tmp_path))
    assert caught.value.message == f"cannot read {config}: Is a directory"
    assert os.listdir("/proc/self/fd") == before


def test_no_descriptor_is_left_open_for_a_directory_in_the_place_of_an_object(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path)) as repo:
        (tmp_path / "objects/00" / f"{'0' * 62}.commit").mkdir(parents=True)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(RepositoryError, match=r"cannot read the object 0{64}\.commit: Is a directory"):
            repo.read_commit("0" * 64)
        assert os.listdir("/proc/self/fd") == before


def test_more_paths_than_a_system_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose.ostree.repo.MOST_PATHS", 1000)
    with Repo.create(str(tmp_path / "repo")) as repo:
        assert len(list(repo.walk(write_nested(repo, 4)))) == 31
        with pytest.raises(RepositoryError, match="has more than 1000 paths"):
            list(repo.walk(write_nested(repo, 64)))


def test_longer_paths_than_a_system_has(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        longest = "/".join(["x" * 255] * 16)
        assert longest in [path for path, _, _ in repo.walk(write_commit(repo, {longest: Item()}))]
        with pytest.raises(RepositoryError, match="has paths of more than 4096 characters"):
            list(repo.walk(write_commit(repo, {f"{longest}/xx": Item()})))


@pytest.mark.parametrize("instead", ["nothing", "another", "a file above it"])
def test_a_repository_that_is_moved_before_it_is_written(instead: str, tmp_path: Path) -> None:
    """Else the objects would go to the one in its place, and the ref to the one that was moved."""
    (tmp_path / "above").mkdir()
    path = str(tmp_path / "above/repo")
    with Repo.create(path) as repo:
        os.rename(path, tmp_path / "moved")
        if instead == "another":
            Repo.create(path).__exit__()
        elif instead == "a file above it":
            (tmp_path / "above").rmdir()
            (tmp_path / "above").touch()
        with (
            pytest.raises(RepositoryError, match=f"the repository {path} was moved or replaced meanwhile"),
            Transaction(repo, jobs=1, reporter=Reporter()),
        ):
            pass
