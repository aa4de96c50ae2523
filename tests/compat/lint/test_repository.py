"""Rules about the repository that serves a commit, with the real ostree as who makes the summary."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from compose.errors import RepositoryError
from compose.lint.commit import repository
from compose.ostree.repo import Repo


def ostree(repo: Path, *arguments: str) -> str:
    return subprocess.run(
        ["ostree", f"--repo={repo}", *arguments], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def commit(repo: Path, branch: str, *more: str) -> str:
    tree = repo.parent / "tree"
    (tree / "usr").mkdir(parents=True, exist_ok=True)
    return ostree(repo, "commit", f"--branch={branch}", f"--tree=dir={tree}", *more).strip()


def found(path: Path, revision: str, checksum: str) -> list[str]:
    with Repo.open(str(path)) as repo:
        return [f"{each.rule} {each.path}: {each.message}" for each in repository(repo, revision, checksum)]


def test_a_summary_that_follows_the_ref(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    ostree(repo, "init", "--mode=archive")
    first = commit(repo, "a/ref")
    assert found(repo, "a/ref", first) == []
    ostree(repo, "summary", "--update")
    assert found(repo, "a/ref", first) == []
    second = commit(repo, "a/ref", "--subject=second")
    assert found(repo, "a/ref", second) == [f"summary /: the summary has {first} for a/ref, not {second}"]
    # a commit is no ref
    assert found(repo, second, second) == []
    other = commit(repo, "another")
    assert found(repo, "another", other) == [f"summary /: the summary has no commit for another, not {other}"]
    ostree(repo, "summary", "--update")
    assert found(repo, "another", other) == found(repo, "a/ref", second) == []


def test_a_damaged_summary(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    ostree(repo, "init", "--mode=archive")
    first = commit(repo, "a")
    (repo / "summary").write_bytes(b"\xff" * 7)
    with pytest.raises(RepositoryError, match=r"cannot read .*summary"):
        found(repo, "a", first)


@pytest.mark.root
def test_a_repository_that_is_not_served(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    ostree(repo, "init", "--mode=bare-user")
    assert found(repo, "a", commit(repo, "a")) == [f"repo-mode /: {repo} is a repository of mode bare-user"]
