"""The rpm database after programs have used it, checked with SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from compose.postprocess import rpmdb
from compose.tree import Tree
from tests.support.treetext import MemoryStore, parse


def used(directory: Path, store: MemoryStore) -> Tree:
    """A tree whose database was opened and closed the way rpm does."""
    path = directory / "rpmdb.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
        database.execute("INSERT INTO Packages VALUES (1, 'header')")
    editor = parse('f usr/share/rpm/.rpm.lock 0644 ""\nf usr/share/rpm/.keyring.lock 0644 ""', store).edit()
    editor.add_file(f"{rpmdb.LOCATION}/rpmdb.sqlite", store.add_bytes(path.read_bytes()), writer="treefile:x")
    return editor.build()


def add(tree: Tree, name: str, data: bytes, store: MemoryStore) -> Tree:
    editor = tree.edit()
    editor.add_file(f"{rpmdb.LOCATION}/{name}", store.add_bytes(data), writer="treefile:x")
    return editor.build()


def test_one_file_that_opens_where_nothing_can_be_written(tmp_path: Path) -> None:
    store = MemoryStore()
    tree = add(add(used(tmp_path, store), "rpmdb.sqlite-wal", b"", store), "rpmdb.sqlite-shm", b"x", store)
    closed = rpmdb.close(tree, store)
    assert closed.children(rpmdb.LOCATION) == ["rpmdb.sqlite"]
    blob = closed[f"{rpmdb.LOCATION}/rpmdb.sqlite"].blob
    assert blob is not None
    place = tmp_path / "closed.sqlite"
    place.write_bytes(store.read(blob))
    with closing(sqlite3.connect(f"{place.as_uri()}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
        assert database.execute("SELECT blob FROM Packages").fetchall() == [("header",)]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert rpmdb.close(closed, store) == closed


def test_a_log_with_something_in_it_stays(tmp_path: Path) -> None:
    store = MemoryStore()
    tree = add(used(tmp_path, store), "rpmdb.sqlite-wal", b"frames", store)
    closed = rpmdb.close(tree, store)
    assert closed.children(rpmdb.LOCATION) == ["rpmdb.sqlite", "rpmdb.sqlite-wal"]
    assert closed[f"{rpmdb.LOCATION}/rpmdb.sqlite"] == tree[f"{rpmdb.LOCATION}/rpmdb.sqlite"]
