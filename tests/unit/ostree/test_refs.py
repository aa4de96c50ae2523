"""Refs that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.refs import write_ref
from compose.ostree.repo import Repo
from compose.ostree.summary import write_summary


@pytest.mark.parametrize("name", ["refs/heads/loop", "refs/heads"])
def test_a_ref_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        path = Path(repo.path, name)
        if path.is_dir():
            path.rmdir()
        path.symlink_to(path.name)
        with pytest.raises(RepositoryError, match=f"cannot read {path}: {os.strerror(40)}"):
            repo.refs()


def test_a_ref_whose_bytes_cannot_be_read(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        Path(repo.path, "refs/heads/broken").symlink_to("/proc/self/mem")
        with pytest.raises(RepositoryError, match=f"cannot read {repo.path}/refs/heads/broken: "):
            repo.resolve("broken")


def test_a_file_in_the_place_of_all_remotes(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        path = Path(repo.path, "refs/remotes")
        path.rmdir()
        path.touch()
        with pytest.raises(RepositoryError, match=f"cannot read {path}: {os.strerror(20)}"):
            repo.resolve("main")


def test_a_file_among_mirrored_collections_is_passed_over(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo"), collection_id="org.example.Os") as repo:
        Path(repo.path, "refs/mirrors/file").touch()
        write_summary(repo, Reporter())
        assert repo.has_summary()


def test_a_ref_where_other_refs_were(tmp_path: Path) -> None:
    """`ostree refs --delete` leaves the directories, and libostree writes a ref in their place."""
    with Repo.create(str(tmp_path / "repo")) as repo:
        for name in ("os/x86_64/main", "os/x86_64/updates/testing"):
            write_ref(repo.fd, name, "1" * 64, fsync=False)
            Path(repo.path, "refs/heads", name).unlink()
        write_ref(repo.fd, "os", "2" * 64, fsync=False)
        assert repo.refs() == {"os": "2" * 64}


def test_a_ref_where_other_refs_are(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        write_ref(repo.fd, "os/x86_64/main", "1" * 64, fsync=False)
        with pytest.raises(RepositoryError, match="the ref os conflicts with another ref"):
            write_ref(repo.fd, "os", "2" * 64, fsync=False)
        with pytest.raises(RepositoryError, match="the ref os/x86_64/main/testing conflicts with another ref"):
            write_ref(repo.fd, "os/x86_64/main/testing", "2" * 64, fsync=False)
        assert repo.refs() == {"os/x86_64/main": "1" * 64}
