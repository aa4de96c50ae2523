"""What a program saw of a tree, and which changes of the tree it would notice."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.sandbox.observe import Observation
from compose.tree import Entry, Tree, TreeEditor
from compose.workroot import sight as sight_module
from compose.workroot.layer import Change
from compose.workroot.sight import Sight, sight_of


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path))


@pytest.fixture
def tree(store: BlobStore) -> Tree:
    editor = Tree.empty().edit()
    for path, text in (
        ("usr/lib/d/a", "a"),
        ("usr/lib/d/b", "b"),
        ("usr/share/other/x", "x"),
    ):
        editor.add_file(path, store.add_bytes(text.encode(), 0o644, 5), writer="package:p")
    editor.add_symlink("bin", "usr/bin", writer="package:p")
    editor.add_symlink("usr/alias", "../usr/lib/d", writer="package:p")
    editor.add_dir("run", writer="package:p")
    return editor.build()


def seen(
    tree: Tree,
    *changes: Change,
    looked: tuple[str, ...] = (),
    read: tuple[str, ...] = (),
    listed: tuple[str, ...] = (),
    names: tuple[tuple[str, str], ...] = (),
    crossed: bool = False,
) -> Sight | None:
    observation = Observation(
        looked=frozenset(looked),
        read=frozenset(read),
        listed=frozenset(listed),
        names=frozenset(names),
        crossed=crossed,
    )
    return sight_of(observation, changes, tree)


def noticed(sight: Sight | None, editor: TreeEditor) -> str | None:
    assert sight is not None
    return sight.differs(editor)


def content(editor: TreeEditor, path: str, text: str, store: BlobStore) -> TreeEditor:
    editor.replace(path, blob=store.add_bytes(text.encode(), 0o644, 5))
    return editor


def test_a_file_that_was_read(tree: Tree, store: BlobStore) -> None:
    sight = seen(tree, read=("/usr/alias/a",))
    assert noticed(sight, tree.edit()) is None
    assert noticed(sight, content(tree.edit(), "usr/lib/d/a", "A", store)) == "usr/lib/d/a"
    assert noticed(sight, content(tree.edit(), "usr/lib/d/b", "B", store)) is None
    editor = tree.edit()
    editor.add_symlink("usr/alias", "share/other", writer="package:p")
    assert noticed(sight, editor) == "usr/alias"


@pytest.mark.parametrize(
    "more", [{"mode": stat.S_IFREG | 0o755}, {"uid": 1}, {"mtime": 6}, {"xattrs": ((b"security.capability", b"x"),)}]
)
def test_a_file_that_was_looked_at(tree: Tree, store: BlobStore, more: dict[str, object]) -> None:
    sight = seen(tree, looked=("/usr/lib/d/a",))
    # as long as it was
    assert noticed(sight, content(tree.edit(), "usr/lib/d/a", "A", store)) is None
    assert noticed(sight, content(tree.edit(), "usr/lib/d/a", "longer", store)) == "usr/lib/d/a"
    editor = tree.edit()
    editor.replace("usr/lib/d/a", **more)
    assert noticed(sight, editor) == "usr/lib/d/a"


def test_the_clock_is_nothing_to_go_by(tree: Tree, store: BlobStore) -> None:
    editor = tree.edit()
    editor.replace("usr/lib/d/a", writer="scriptlet:p:%post", mtime=1000)
    sight = seen(editor.build(), read=("/usr/lib/d/a",))
    editor.replace("usr/lib/d/a", mtime=2000)
    assert noticed(sight, editor) is None


def test_what_was_missed(tree: Tree, store: BlobStore) -> None:
    sight = seen(tree, looked=("/usr/lib/d/c", "/etc/conf.d/deep/x", "/usr/lib/d/a/not-a-directory"))
    assert noticed(sight, tree.edit()) is None
    editor = tree.edit()
    editor.add_symlink("usr/lib/d/c", "a", writer="package:p")
    assert noticed(sight, editor) == "usr/lib/d/c"
    editor = tree.edit()
    editor.add_dir("etc", writer="package:p")
    assert noticed(sight, editor) == "etc"
    editor = tree.edit()
    editor.remove("usr/lib/d/a")
    editor.add_dir("usr/lib/d/a", writer="package:p")
    assert noticed(sight, editor) == "usr/lib/d/a"


def test_a_directory_that_was_listed(tree: Tree, store: BlobStore) -> None:
    sight = seen(tree, listed=("/usr/alias",), looked=("/usr/share",))
    assert noticed(sight, content(tree.edit(), "usr/lib/d/a", "longer", store)) is None
    for change in ("add", "remove", "retype"):
        editor = tree.edit()
        if change == "add":
            editor.add_dir("usr/lib/d/new", writer="package:p")
        else:
            editor.remove("usr/lib/d/b")
        if change == "retype":
            editor.add_dir("usr/lib/d/b", writer="package:p")
        assert noticed(sight, editor) == "usr/lib/d"
    editor = tree.edit()
    editor.add_dir("usr/share/new", writer="package:p")
    assert noticed(sight, editor) is None


def test_what_was_changed_unread_is_part_of_the_result(tree: Tree, store: BlobStore) -> None:
    """mv and ln move content without opening it."""
    moved = replace(tree["usr/lib/d/a"], writer="")
    changes = (Change(path="usr/lib/d/a"), Change(path="usr/lib/d/moved", entry=moved))
    sight = seen(tree, *changes, looked=("/usr/lib/d/a", "/usr/lib/d/moved"))
    assert noticed(sight, content(tree.edit(), "usr/lib/d/a", "A", store)) == "usr/lib/d/a"


def test_symlinks_that_the_program_made_itself(tree: Tree, store: BlobStore) -> None:
    link = Entry(mode=stat.S_IFLNK | 0o777, target="../share/other")
    made = Change(path="usr/lib/new", entry=link)
    sight = seen(tree, made, looked=("/usr/lib/new",), read=("/usr/lib/new/x",))
    assert noticed(sight, content(tree.edit(), "usr/share/other/x", "X", store)) == "usr/share/other/x"
    # gone again
    sight = seen(
        tree,
        looked=("/usr/lib/new",),
        names=(("/usr/lib/new", "/usr/lib/../share/other"),),
        read=("/usr/lib/new/x",),
    )
    assert noticed(sight, content(tree.edit(), "usr/share/other/x", "X", store)) == "usr/share/other/x"
    assert noticed(sight, content(tree.edit(), "usr/lib/d/a", "A", store)) is None


@pytest.mark.parametrize(
    "names",
    [
        # ln -s alias one; mv one two; two/a
        (("/usr/one", "/usr/alias"), ("/usr/two", "/usr/one")),
        # mv usr/lib usr/two: what is below is meant by the new name
        (("/usr/two", "/usr/lib/d"),),
        # there and back, and once around
        (("/usr/two", "/usr/lib/d"), ("/usr/lib/d", "/usr/two"), ("/usr/two", "/usr/two/x")),
        # the directory of a name has another name itself
        (("/usr/dir", "/usr/lib"), ("/usr/dir/one", "/usr/dir/d"), ("/usr/two", "/usr/lib/one")),
    ],
)
def test_names_that_a_program_gave(names: tuple[tuple[str, str], ...], tree: Tree, store: BlobStore) -> None:
    sight = seen(tree, names=names, read=("/usr/two/a",))
    assert noticed(sight, tree.edit()) is None
    assert noticed(sight, content(tree.edit(), "usr/lib/d/a", "A", store)) == "usr/lib/d/a"
    assert noticed(sight, content(tree.edit(), "usr/lib/d/b", "B", store)) is None


def test_too_many_names_to_follow(tree: Tree, store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight_module, "_MAX_WAYS", 100)
    names = tuple((f"/usr/n{one}", f"/usr/n{two}/n") for one in range(9) for two in range(9))
    assert seen(tree, names=names, read=("/usr/n1/a",)) is None


def test_what_leads_out_of_the_tree(tree: Tree, store: BlobStore) -> None:
    editor = tree.edit()
    editor.add_symlink("var", "run", writer="package:p")
    editor.add_symlink("usr/self", "/proc/self/root/usr", writer="package:p")
    astray = editor.build()
    assert noticed(seen(astray, read=("/var/x",)), editor) is None
    assert seen(astray, read=("/var/x",), crossed=True) is None
    assert seen(astray, read=("/usr/self/lib/d/a",)) is None
