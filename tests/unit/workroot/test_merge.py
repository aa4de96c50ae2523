"""Applying changes to trees and computing updates between trees, without a disk."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import ScriptError
from compose.tree import BlobRef, Entry, Tree
from compose.workroot.layer import Change
from compose.workroot.materialise import as_materialised
from compose.workroot.merge import apply_changes, lost, update

CAPABILITY = (b"security.capability", b"\1\0\0\2")
LABEL = (b"security.selinux", b"label")


def blob(text: str, mode: int = 0o644) -> BlobRef:
    return BlobRef(digest=text.ljust(64, "0"), size=len(text), mode=mode, mtime=5)


def file(text: str, permissions: int = 0o644, **more: object) -> Entry:
    return Entry(mode=stat.S_IFREG | permissions, blob=blob(text), mtime=5, **more)  # type: ignore[arg-type]


def directory(permissions: int = 0o755, **more: object) -> Entry:
    return Entry(mode=stat.S_IFDIR | permissions, **more)  # type: ignore[arg-type]


def symlink(target: str) -> Entry:
    return Entry(mode=stat.S_IFLNK | 0o777, target=target)


def tree(**entries: Entry) -> Tree:
    editor = Tree.empty().edit()
    for path, entry in entries.items():
        editor.put(path.replace("__", "/"), entry)
    return editor.build()


BASE = tree(
    d=directory(),
    d__a=file("a", writer="package:p"),
    d__sub=directory(),
    d__sub__b=file("b"),
    link=symlink("d"),
    secret=file("s", 0o4640, uid=3, gid=4, xattrs=(CAPABILITY, LABEL)),
    private=directory(0o2750, gid=7),
)


def absorb(*changes: Change, base: Tree = BASE, applied: bool = True) -> Tree:
    return merged(base, changes, "scriptlet:x:%post", applied)


def merged(base: Tree, changes: Iterable[Change], writer: str, applied: bool) -> Tree:
    editor = base.edit()
    apply_changes(editor, changes, writer=writer, applied=applied)
    return editor.build()


def paths_that_differ(one: Tree, other: Tree) -> set[str]:
    return {path for path in one.entries.keys() | other.entries.keys() if one.get(path) != other.get(path)}


def test_what_is_equal_is_no_change() -> None:
    touched = replace(file("a"), mtime=99)
    assert absorb(Change(path="", entry=directory()), Change(path="d/a", entry=touched)) == BASE


def test_content_and_metadata_are_changes_with_a_writer() -> None:
    for entry in (file("new"), file("a", 0o600), file("a", uid=1), file("a", xattrs=((b"user.x", b"1"),))):
        now = absorb(Change(path="d/a", entry=entry))
        assert now["d/a"] == replace(entry, writer="scriptlet:x:%post")
        assert paths_that_differ(BASE, now) == {"d/a"}


def test_deletion_takes_all_below() -> None:
    assert "d/sub/b" not in absorb(Change(path="d"))
    assert "link" in absorb(Change(path="d"))


def test_an_opaque_directory_hides_what_was_in_it() -> None:
    now = absorb(Change(path="d", entry=directory(), opaque=True), Change(path="d/c", entry=file("c")))
    assert now.children("d") == ["c"]
    assert now["d"] == BASE["d"]


def test_types_change() -> None:
    now = absorb(Change(path="d", entry=symlink("private")), Change(path="link", entry=directory(), opaque=True))
    assert now["d"].target == "private"
    assert now["link"].is_dir
    assert "d/sub/b" not in now
    now = absorb(
        Change(path="d/a", entry=directory()),
        Change(path="d/a/x", entry=file("x")),
        Change(path="link", entry=file("l")),
    )
    assert now.children("d/a") == ["x"]
    assert now["link"].is_file


def test_before_owners_are_applied_the_trees_own_metadata_stays() -> None:
    now = absorb(
        Change(path="private", entry=directory()),
        Change(path="private/new", entry=file("n")),
        Change(path="secret", entry=file("changed", 0o640)),
        applied=False,
    )
    assert now["private"] == BASE["private"]
    assert now["secret"] == replace(BASE["secret"], blob=blob("changed"), writer="scriptlet:x:%post")
    # a program that sets it itself is believed
    assert absorb(Change(path="secret", entry=file("s", 0o644)), applied=False)["secret"].permissions == 0o644
    assert absorb(Change(path="secret", entry=file("s", 0o600)), applied=True)["secret"].permissions == 0o600


def test_hard_links_made_by_programs() -> None:
    editor = BASE.edit()
    editor.put("one", file("1", link="workroot:x"))
    base = editor.build()
    now = absorb(Change(path="x", entry=file("x"), inode=7), Change(path="y", entry=file("x"), inode=7), base=base)
    assert now["x"].link == now["y"].link != ""
    assert now["x"].link != now["one"].link


def test_names_and_targets_must_be_utf8() -> None:
    with pytest.raises(ScriptError, match=r"made by scriptlet:x:%post.*not UTF-8"):
        absorb(Change(path="d/\udcff", entry=file("x")))
    with pytest.raises(ScriptError, match=r"/link was made by scriptlet:x:%post with the target b'\\xff'.*not UTF-8"):
        absorb(Change(path="link", entry=symlink("\udcff")))


def test_what_a_tree_cannot_hold() -> None:
    changes = (Change(path="p", lost="fifo"), Change(path="d/a", entry=file("a"), lost="ACL"))
    assert list(lost(changes, "x:%post")) == [
        "/p: fifo made by x:%post dropped, a commit cannot hold it",
        "/d/a: ACL made by x:%post dropped, a commit cannot hold it",
    ]
    assert absorb(*changes) == BASE


def test_materialised() -> None:
    for plain in (file("x"), file("x", 0o755), directory(), symlink("y"), file("x", xattrs=(LABEL,))):
        assert as_materialised(plain) is plain
    for special, permissions in (
        (file("x", 0o4755), 0o755),
        (file("x", 0o555), 0o755),
        (file("x", 0o2771), 0o751),
        (file("x", uid=1), 0o644),
        (file("x", 0o666, gid=1), 0o644),
        (file("x", 0o755, xattrs=(CAPABILITY,)), 0o755),
        (file("x", 0o640, gid=1), 0o640),
        (file("x", 0), 0o600),
    ):
        shown = as_materialised(special)
        assert (shown.permissions, shown.uid, shown.gid, shown.xattrs) == (permissions, 0, 0, ())
    assert as_materialised(directory(0o1777, gid=5)).permissions == 0o755


def test_first_update_sets_what_is_not_plain() -> None:
    first = update(BASE, BASE, applied=False)
    assert (first.removed, first.made) == ((), ())
    assert [path for path, _ in first.adjusted] == ["private", "secret"]
    second = update(BASE, BASE, applied=True)
    assert (second.removed, second.made, second.adjusted) == ((), (), ())


def test_update_with_another_content() -> None:
    editor = BASE.edit()
    editor.put("d/a", file("other"))
    editor.remove("d/sub")
    editor.put("d/sub", symlink("a"))
    editor.put("new/deep", file("new"))
    editor.put("secret", replace(BASE["secret"], uid=9))
    change = update(BASE, editor.build(), applied=True)
    assert change.removed[:2] == ("d/a", "d/sub")
    assert [path for path, _ in change.made] == ["d/a", "d/sub", "new", "new/deep"]
    assert [path for path, _ in change.adjusted] == ["secret"]


names = st.sampled_from(["a", "b", "a/c", "a/d", "b/e", "b/e/f"])
entries = st.sampled_from([file("1"), file("2", 0o600), file("1", uid=2), directory(), directory(0o700), symlink("a")])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    editor = Tree.empty().edit()
    for name in sorted(draw(st.sets(names))):
        if "/" in name and not editor.build().is_dir(name.rpartition("/")[0]):
            continue
        editor.put(name, draw(entries))
    return editor.build()


def difference(before: Tree, after: Tree) -> list[Change]:
    """The content of an overlay's upper layer after changing `before` to `after`."""
    found = [Change(path=path) for path in before.entries if path not in after]
    for path, entry in after.walk():
        if before.get(path) != entry:
            opaque = entry.is_dir and path in before and not before.is_dir(path)
            found.append(Change(path=path, entry=entry, opaque=opaque))
    return sorted(found, key=lambda change: change.path)


@given(trees(), trees())
def test_any_change_gives_the_tree_it_came_from(before: Tree, after: Tree) -> None:
    found = merged(before, difference(before, after), "", True)
    plain = Tree({path: replace(entry, writer="", mtime=0) for path, entry in found.entries.items()})
    assert plain == Tree({path: replace(entry, writer="", mtime=0) for path, entry in after.entries.items()})


@pytest.mark.parametrize("name", [b"trusted.overlay.opaque", b"user.overlay.opaque"])
def test_what_overlays_of_others_note_is_hidden_and_stays(name: bytes) -> None:
    """The sandbox's own overlay would act on it."""
    opaque = directory(xattrs=((name, b"y"),))
    base = tree(d=opaque, d__a=file("a"))
    assert as_materialised(opaque) == opaque
    assert update(base, base, applied=False).adjusted == ()
    # a program that changed the directory saw no such xattr
    left = directory(0o700, xattrs=((b"user.mine", b"1"),))
    after = absorb(Change(path="d", entry=left), base=base)["d"]
    assert after.permissions == 0o700
    assert dict(after.xattrs) == {name: b"y", b"user.mine": b"1"}
    assert absorb(Change(path="d", entry=directory()), base=base)["d"] == opaque
