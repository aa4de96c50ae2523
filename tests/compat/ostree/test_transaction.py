"""Refs that a transaction moves only from the commit it was begun with; what is left of one that was killed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.lock import SUMMARY_LOCK, locked
from compose.ostree.repo import Repo
from compose.ostree.staging import staging_directory
from compose.ostree.transaction import Transaction
from tests.compat.ostree.test_commit import ostree
from tests.support.commits import file, write_commit


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A repository, and three commits in it."""
    path = tmp_path_factory.mktemp("template") / "repo"
    with Repo.create(str(path)) as made:
        return path, tuple(write_commit(made, {"file": file(content)}) for content in (b"1", b"2", b"3"))


@pytest.fixture
def repo(template: tuple[Path, tuple[str, ...]], tmp_path: Path) -> Iterator[Repo]:
    shutil.copytree(template[0], tmp_path / "repo")
    with Repo.open(str(tmp_path / "repo")) as copied:
        yield copied


def move(repo: Repo, checksum: str, replaces: str | None) -> None:
    with Transaction(repo, jobs=1, reporter=Reporter()) as transaction:
        transaction.set_ref("os", checksum, replaces=replaces)


@pytest.fixture
def commits(template: tuple[Path, tuple[str, ...]]) -> tuple[str, ...]:
    return template[1]


def test_from_the_commit_that_it_was(repo: Repo, commits: tuple[str, ...]) -> None:
    first, second, third = commits
    move(repo, first, "")
    move(repo, second, first)
    move(repo, third, None)
    assert repo.refs() == {"os": third}


def test_elsewhere_meanwhile(repo: Repo, commits: tuple[str, ...]) -> None:
    first, second, third = commits
    for replaces, told in (("", "there was none"), (first, first)):
        move(repo, second, None)
        with pytest.raises(RepositoryError, match=rf"os\b.*{told}.*{second}"):
            move(repo, third, replaces)
        assert repo.refs() == {"os": second}


def test_removed_meanwhile(repo: Repo, commits: tuple[str, ...]) -> None:
    with pytest.raises(RepositoryError, match=rf"{commits[0]}.* removed"):
        move(repo, commits[1], commits[0])
    assert repo.refs() == {}


def test_the_same_commit_was_there_first(repo: Repo, commits: tuple[str, ...]) -> None:
    move(repo, commits[1], None)
    move(repo, commits[1], commits[0])
    assert repo.refs() == {"os": commits[1]}


def test_a_ref_that_moved_leaves_no_objects(repo: Repo, commits: tuple[str, ...], tmp_path: Path) -> None:
    move(repo, commits[0], None)
    before = sorted(Path(repo.path, "objects").rglob("*"))
    with (
        pytest.raises(RepositoryError, match="moved"),
        Transaction(repo, jobs=1, reporter=Reporter()) as transaction,
    ):
        transaction.write_dirmeta(1, 2, 0o40755, ())
        transaction.set_ref("os", commits[2], replaces=commits[1])
    assert sorted(Path(repo.path, "objects").rglob("*")) == before


def test_what_belongs_to_a_commit_is_kept_before_its_ref(repo: Repo, commits: tuple[str, ...]) -> None:
    def fail() -> None:
        raise RepositoryError("cannot be kept")

    seen: list[str | None] = []
    before = repo.resolve("os")
    with pytest.raises(RepositoryError, match="kept"), Transaction(repo, jobs=1, reporter=Reporter()) as transaction:
        transaction.set_ref("os", commits[2])
        transaction.before_refs(fail)
    assert repo.resolve("os") == before
    with Transaction(repo, jobs=1, reporter=Reporter()) as transaction:
        transaction.set_ref("os", commits[2])
        transaction.before_refs(lambda: seen.append(repo.resolve("os")))
    assert (seen, repo.resolve("os")) == ([before], commits[2])


def test_nobody_moves_it_between_the_look_and_the_write(
    repo: Repo, commits: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both hold the repository's lock, shared; another one excludes them here."""
    Path(repo.path, "config").write_text(Path(repo.path, "config").read_text() + "lock-timeout-secs=0\n")
    write = refs.write_ref
    tried = []

    def during(fd: int, name: str, checksum: str, *, fsync: bool) -> None:
        with (
            Repo.open(repo.path) as same,
            pytest.raises(RepositoryError, match="locked"),
            locked(same, Reporter(), exclusive=True, name=SUMMARY_LOCK),
        ):
            pass
        tried.append(name)
        write(fd, name, checksum, fsync=fsync)

    monkeypatch.setattr(refs, "write_ref", during)
    with Repo.open(repo.path) as same:
        move(same, commits[0], "")
    assert tried == ["os"]


def test_libostree_does_not_take_over_what_was_killed(repo: Repo, tmp_path: Path) -> None:
    """It resumes transactions of its own, and publishes whatever it finds in their staging directories."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"of a commit" * 1000)
    ostree(repo_path := Path(repo.path), "commit", "--branch=os", f"--tree=dir={tmp_path}/tree")
    (written,) = (path for path in repo_path.glob("objects/*/*.filez") if path.stat().st_size > 40)
    child = os.fork()
    if not child:
        with staging_directory(repo.path) as staging:
            unfinished = Path(staging.path, written.parent.name, written.name)
            unfinished.parent.mkdir()
            unfinished.write_bytes(written.read_bytes()[:20])
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    ostree(repo_path, "refs", "--delete", "os")
    ostree(repo_path, "prune", "--refs-only")
    assert not written.exists()
    ostree(repo_path, "commit", "--branch=os", f"--tree=dir={tmp_path}/tree")
    ostree(repo_path, "fsck")
    left = {path.name for path in (repo_path / "tmp").iterdir()} - {"cache"}
    assert left
    with Transaction(repo, jobs=1, reporter=Reporter()):
        assert left.isdisjoint(path.name for path in (repo_path / "tmp").iterdir())
