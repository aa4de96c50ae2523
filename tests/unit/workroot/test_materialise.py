"""Updating a lower layer from one tree to another gives the same as writing it from scratch."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.tree import Entry, Tree, TreeEditor
from compose.workroot.materialise import materialise
from compose.workroot.memory import ProgramMemory


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"))


def add(editor: TreeEditor, store: BlobStore, path: str, text: str, *, mode: int = 0o644, link: str = "") -> None:
    blob = store.add_bytes(text.encode(), mode, 5)
    editor.put(path, Entry(mode=stat.S_IFREG | mode, blob=blob, mtime=5, link=link, writer="t"))


def first(store: BlobStore) -> Tree:
    editor = Tree.empty().edit()
    for path in ("usr", "usr/bin", "gone", "gone/deep", "tmp", "becomes-file", "var"):
        editor.add_dir(path, writer="t")
    for path in ("usr/bin/same", "usr/bin/other", "gone/deep/x", "becomes-directory"):
        add(editor, store, path, path)
    for number in range(3):
        add(editor, store, f"usr/bin/linked-{number}", "linked", link="1")
    add(editor, store, "usr/bin/setuid", "s", mode=0o4755)
    editor.add_symlink("bin", "usr/bin", writer="t")
    editor.add_symlink("usr/link", "same", writer="t")
    return editor.build()


def second(tree: Tree, store: BlobStore) -> Tree:
    editor = tree.edit()
    for path in ("gone", "becomes-directory", "becomes-file", "usr/link", "usr/bin/linked-0", "tmp"):
        editor.remove(path)
    editor.add_dir("becomes-directory", writer="t")
    add(editor, store, "becomes-directory/x", "x")
    add(editor, store, "becomes-file", "x")
    add(editor, store, "usr/bin/other", "changed")
    add(editor, store, "usr/bin/linked-3", "linked", link="1")
    editor.add_symlink("usr/link", "other", writer="t")
    return editor.build()


def listing(directory: Path) -> dict[str, object]:
    """What programs see; of inodes only which names share one."""
    found: dict[str, object] = {}
    names: dict[int, list[str]] = {}
    for top, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(top, name)
            status = path.lstat()
            what = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
            found[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime, what)
            if path.is_file() and not path.is_symlink():
                names.setdefault(status.st_ino, []).append(str(path.relative_to(directory)))
    return found | {"groups": sorted(sorted(group) for group in names.values())}


@pytest.mark.parametrize("knowing", [True, False])
def test_another_tree_is_shown_as_if_made_from_nothing(knowing, store, tmp_path):
    one = first(store)
    other = second(one, store)
    for name in ("fresh", "reused"):
        (tmp_path / name).mkdir()
    materialise(other, store, str(tmp_path / "fresh"))
    shown = None
    for tree in (one, other, one, other):
        materialise(tree, store, str(tmp_path / "reused"), shown=shown if knowing else None)
        shown = tree
    assert listing(tmp_path / "reused") == listing(tmp_path / "fresh")


def test_what_is_the_same_is_not_made_again(store, tmp_path):
    tree = first(store)
    (tmp_path / "lower").mkdir()
    materialise(tree, store, str(tmp_path / "lower"))
    same = tmp_path / "lower/usr/bin/setuid"
    before = same.stat().st_ino
    materialise(tree, store, str(tmp_path / "lower"), shown=tree)
    assert same.stat().st_ino == before


def test_what_a_lower_layer_shows_is_known_to_who_had_it_last(tmp_path):
    one, other = (ProgramMemory(str(tmp_path)) for _ in range(2))
    tree = Tree.empty()

    def shown(memory: ProgramMemory) -> Tree | None:
        with memory.lower() as lower:
            assert lower is not None
            before, lower.shown = lower.shown, tree
            return before

    assert [shown(one), shown(one), shown(one)] == [None, tree, tree]
    assert [shown(other), shown(one), shown(one), shown(other)] == [None, None, tree, None]


def test_a_lower_layer_that_was_left_in_between_is_looked_at(tmp_path):
    memory = ProgramMemory(str(tmp_path))
    for _ in range(2):
        with memory.lower() as lower:
            assert lower is not None
            assert lower.shown is None
