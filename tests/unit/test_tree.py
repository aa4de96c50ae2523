"""The tree value and its editor."""

from __future__ import annotations

import dataclasses
import stat

import pytest

from compose.errors import TreeError
from compose.tree import BlobRef, Entry, Tree, TreeLookupError

BLOB = BlobRef(digest="0" * 64, size=0, mode=0o644, mtime=0)


def sample() -> Tree:
    editor = Tree.empty().edit()
    editor.add_dir("usr/bin", writer="t")
    editor.add_file("usr/bin/sh", BLOB, 0o755, writer="t")
    editor.add_symlink("bin", "usr/bin", writer="t")
    editor.add_symlink("usr/tmp", "../var/tmp", writer="t")
    editor.add_symlink("loop", "loop", writer="t")
    return editor.build()


def test_parents_are_made_by_the_same_writer() -> None:
    tree = sample()
    assert tree["usr"].writer == "t"
    assert tree["usr"].mode == stat.S_IFDIR | 0o755


def test_walk_gives_parents_first_and_siblings_sorted() -> None:
    assert [path for path, _ in sample().walk()] == ["", "bin", "loop", "usr", "usr/bin", "usr/bin/sh", "usr/tmp"]


def test_walk_of_a_subtree_and_of_nothing() -> None:
    assert [path for path, _ in sample().walk("usr/bin")] == ["usr/bin", "usr/bin/sh"]
    assert list(sample().walk("nothing")) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("bin/sh", "usr/bin/sh"),
        ("usr/tmp/x/y", "var/tmp/x/y"),
        ("../../bin", "usr/bin"),
        ("usr/bin/../../bin/sh", "usr/bin/sh"),
        ("", ""),
    ],
)
def test_resolve(path: str, expected: str) -> None:
    assert sample().resolve(path) == expected


def test_resolve_follows_as_many_symlinks_as_linux() -> None:
    editor = Tree.empty().edit()
    for number in range(41):
        editor.add_symlink(str(number), str(number + 1), writer="t")
    assert editor.build().resolve("1") == "41"
    with pytest.raises(TreeLookupError, match="too many levels"):
        editor.build().resolve("0")


def test_resolve_without_the_last_symlink() -> None:
    assert sample().resolve("bin", follow_last=False) == "bin"


@pytest.mark.parametrize("path", ["loop", "loop/x", "usr/bin/sh/x"])
def test_resolve_refuses(path: str) -> None:
    with pytest.raises(TreeLookupError):
        sample().resolve(path)


def test_move_takes_everything_below() -> None:
    editor = sample().edit()
    editor.move("usr/bin", "opt/programs")
    tree = editor.build()
    assert "usr/bin" not in tree
    assert tree["opt/programs/sh"].blob == BLOB
    assert tree.children("usr") == ["tmp"]


def test_move_refuses_what_exists_and_what_does_not() -> None:
    editor = sample().edit()
    with pytest.raises(ValueError, match="exists"):
        editor.move("bin", "usr")
    with pytest.raises(KeyError):
        editor.move("nothing", "x")


def test_remove_is_recursive() -> None:
    editor = sample().edit()
    assert editor.remove("usr")
    assert not editor.remove("usr")
    assert sorted(editor.build().entries) == ["", "bin", "loop"]


def test_a_full_directory_does_not_become_a_file() -> None:
    editor = sample().edit()
    with pytest.raises(TreeError, match="directory with content"):
        editor.add_file("usr/bin", BLOB, writer="t")


def test_nothing_lies_below_a_file() -> None:
    editor = sample().edit()
    with pytest.raises(TreeError, match="not a directory"):
        editor.add_file("usr/bin/sh/x", BLOB, writer="t")


def test_editing_leaves_the_tree_alone() -> None:
    tree = sample()
    tree.edit().remove("usr")
    assert "usr/bin/sh" in tree


def test_trees_are_equal_if_all_entries_are() -> None:
    tree = sample()
    assert tree == sample()
    editor = tree.edit()
    editor.replace("usr/bin/sh", uid=1)
    assert tree != editor.build()
    assert tree != Tree.empty()
    assert tree != tree.entries


def test_with_xattrs_changes_nothing_else() -> None:
    values = {"blob": BLOB, "target": "x", "link": "x", "writer": "x", "xattrs": ((b"user.a", b"1"),)}
    # every field has another value than its default, those of later too
    given = {each.name: values.get(each.name, number) for number, each in enumerate(dataclasses.fields(Entry), start=1)}
    entry = Entry(**given)  # type: ignore[arg-type]
    assert entry.with_xattrs(()) == dataclasses.replace(entry, xattrs=())


def test_with_xattr_sorts_and_removes() -> None:
    entry = Entry(mode=stat.S_IFREG | 0o644, blob=BLOB)
    both = entry.with_xattr(b"user.b", b"2").with_xattr(b"user.a", b"1")
    assert both.xattrs == ((b"user.a", b"1"), (b"user.b", b"2"))
    assert both.with_xattr(b"user.a", None).xattrs == ((b"user.b", b"2"),)


def test_an_index_that_is_handed_on_is_that_of_a_new_tree() -> None:
    tree = sample()
    for change in (
        lambda editor: editor.add_file("usr/lib/a", BLOB, writer="t"),
        lambda editor: editor.move("usr/lib", "usr/bin/lib"),
        lambda editor: editor.remove("usr/bin"),
        lambda editor: editor.add_dir("usr/bin", writer="t"),
        lambda editor: editor.put("usr/bin", Entry(mode=stat.S_IFLNK | 0o777, target="lib")),
        lambda editor: editor.replace("usr/tmp", uid=7),
    ):
        editor = tree.edit()
        change(editor)
        tree = editor.build()
        fresh = Tree(tree.entries)
        directories = {"", *(path for path in [*sample().entries, *tree.entries])}
        assert {path: tree.children(path) for path in directories} == {
            path: fresh.children(path) for path in directories
        }
        assert {path: editor.children(path) for path in directories} == {
            path: fresh.children(path) for path in directories
        }
        assert list(tree.walk()) == list(fresh.walk())


def test_parents_may_be_deeper_than_the_stack() -> None:
    path = "a/" * 2000 + "b"
    editor = Tree.empty().edit()
    editor.add_file(path, BLOB, writer="t")
    tree = editor.build()
    assert len(tree) == 2002
    assert [path for path, _ in tree.walk()][-1] == path
    assert tree.resolve(path) == path
