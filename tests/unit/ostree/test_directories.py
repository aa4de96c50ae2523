"""Directories are the same in whatever order their contents become known, and none is left for the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compose.events import Reporter
from compose.ostree.directories import Directory, DirectoryWriter
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction

_DIRECTORIES = ["", "empty", "etc", "usr", "usr/bin", "usr/lib", "usr/lib/x", "usr/lib/x/empty"]
_FILES = ["etc/b", "etc/B", "etc/a.conf", "usr/bin/sh", "usr/lib/x/é", "usr/lib/x/z", "usr/lib/os-release", "top"]


def _directories() -> list[Directory]:
    places = {path: place for place, path in enumerate(_DIRECTORIES)}
    return [
        Directory(
            parent=places[path.rpartition("/")[0]] if path else -1,
            name=path.rpartition("/")[2].encode(),
            uid=place,
            gid=0,
            mode=0o40755,
            xattrs=(),
        )
        for path, place in places.items()
    ]


def _names() -> list[tuple[int, bytes]]:
    return [(_DIRECTORIES.index(above), name.encode()) for above, _, name in (path.rpartition("/") for path in _FILES)]


def _checksum(content: int) -> bytes:
    return hashlib.sha256(_FILES[content].encode()).digest()


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("directories") / "repo"
    Repo.create(str(path)).__exit__()
    return path


def test_what_is_read_again_is_what_was_written(repo: Path) -> None:
    commit = _write(repo, [list(range(len(_FILES)))])
    with Repo.open(str(repo)) as opened:
        found = list(opened.walk(commit))
        owners = {path: opened.read_dirmeta(meta).uid for path, _, meta in found if meta is not None}
    assert owners == {path: place for place, path in enumerate(_DIRECTORIES)}
    contents = {path: checksum for path, checksum, meta in found if meta is None}
    assert contents == {path: _checksum(place) for place, path in enumerate(_FILES)}


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(len(_FILES))), cut=st.integers(0, len(_FILES)))
def test_in_any_order(repo: Path, order: list[int], cut: int) -> None:
    assert _write(repo, [order[:cut], order[cut:]]) == _write(repo, [list(range(len(_FILES)))])


def test_a_directory_does_not_wait_for_another(repo: Path) -> None:
    with Repo.open(str(repo)) as opened, Transaction(opened, jobs=1, reporter=Reporter()) as transaction:
        writer = DirectoryWriter(transaction, _directories(), _names())
        empty = transaction.stats.metadata_total
        # one dirtree for both empty directories, a dirmeta for each
        assert empty == 3
        writer.take([(place, _checksum(place)) for place, path in enumerate(_FILES) if path.startswith("etc/")])
        assert transaction.stats.metadata_total == empty + 2


def _write(repo: Path, batches: Sequence[Sequence[int]]) -> str:
    with Repo.open(str(repo)) as opened, Transaction(opened, jobs=1, reporter=Reporter()) as transaction:
        writer = DirectoryWriter(transaction, _directories(), _names())
        for batch in batches:
            writer.take([(content, _checksum(content)) for content in batch])
        tree, meta = writer.root
        return transaction.write_commit(
            Commit(metadata=(), parent=b"", subject="", body="", timestamp=1, root_tree=tree, root_meta=meta)
        )
