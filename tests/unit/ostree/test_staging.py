"""The order in which the objects of a transaction get their places."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose import fs, syscalls
from compose.ostree.repo import Repo
from compose.ostree.staging import publish_objects, staging_directory, write_staged

COMMITS = "aa/1.commit", "bb/2.commit"
OTHERS = "aa/1.commitmeta", "aa/3.dirtree", "bb/4.file", "cc/5.dirmeta"


def placed(repo: Repo) -> set[str]:
    top = Path(repo.path, "objects")
    return {str(path.relative_to(top)) for path in top.glob("*/*")}


def publish(repo: Repo, *, fsync: bool) -> None:
    objects = os.open("objects", os.O_RDONLY | os.O_DIRECTORY, dir_fd=repo.fd)
    try:
        with staging_directory(repo.path) as staging:
            for name in (*COMMITS, *OTHERS):
                write_staged(staging, name, b"")
            publish_objects(staging, objects, fsync=fsync)
    finally:
        os.close(objects)


@pytest.mark.parametrize("new", [True, False])
def test_a_commit_comes_after_the_objects_of_all_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    """Of several commits, none may be there without its objects when the transaction is killed."""
    states: list[set[str]] = []

    def recorded(name: str, module: object) -> None:
        real = getattr(module, name)

        def call(*arguments: object, **named: object) -> object:
            result = real(*arguments, **named)
            states.append(placed(repo))
            return result

        monkeypatch.setattr(module, name, call)

    with Repo.create(str(tmp_path / "repo")) as repo:
        for directory in () if new else ("aa", "bb"):
            Path(repo.path, "objects", directory).mkdir()
        recorded("rename_noreplace", syscalls)
        recorded("rename", os)
        publish(repo, fsync=False)
        assert placed(repo) == {*COMMITS, *OTHERS}
    assert all(state.isdisjoint(COMMITS) or state.issuperset(OTHERS) for state in states)


def test_a_commit_comes_after_the_others_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, set[str]]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        calls.append((os.path.basename(fs.full_path("", fd).rstrip("/")), placed(repo)))
        real(fd)

    with Repo.create(str(tmp_path / "repo")) as repo:
        monkeypatch.setattr(os, "fsync", fsync)
        publish(repo, fsync=True)
    assert sorted(name for name, state in calls if state.isdisjoint(COMMITS)) == ["aa", "bb", "cc", "objects"]
    assert sorted(name for name, state in calls if state.issuperset(COMMITS)) == ["aa", "bb", "objects"]
