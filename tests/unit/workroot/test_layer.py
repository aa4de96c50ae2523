"""Which paths a program changed, from fabricated snapshots of a directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from compose.workroot.layer import Layer, Stamp

DIRECTORY = stat.S_IFDIR | 0o755
FILE = stat.S_IFREG | 0o644


def stamp(inode: int, ctime: int = 0, mode: int = FILE, uid: int = 0) -> Stamp:
    return inode, ctime, mode, uid, 0


def test_made_changed_and_removed(tmp_path: Path) -> None:
    layer = Layer(directory="/nowhere", lower=str(tmp_path))
    before = {"same": stamp(1, 1), "written": stamp(2, 1), "replaced": stamp(3, 1), "gone": stamp(4, 1)}
    after = {"same": stamp(1, 1), "written": stamp(2, 9), "replaced": stamp(8, 1), "made": stamp(5, 1)}
    assert layer.changed(before, after) == ("gone", "made", "replaced", "written")
    assert layer.changed(after, after) == ()


def test_a_directory_copied_up_with_its_file_is_no_change(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    (lower / "d").mkdir(parents=True)
    (lower / "d").chmod(0o755)
    status = (lower / "d").stat()
    layer = Layer(directory="/nowhere", lower=str(lower))
    up = (50, 0, DIRECTORY, status.st_uid, status.st_gid)
    assert layer.changed({}, {"d": up, "d/f": stamp(51, 1)}) == ("d/f",)
    assert layer.changed({}, {"d": (50, 0, stat.S_IFDIR | 0o700, *up[3:])}) == ("d",)
    assert layer.changed({}, {"new": up}) == ("new",)


def test_stamps_of_a_directory_do_not_change_with_its_entries(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    layer = Layer(directory=str(tmp_path), lower="")
    before = layer.stamps()
    (tmp_path / "d/f").write_text("x")
    os.symlink("f", tmp_path / "d/l")
    assert layer.changed(before, layer.stamps()) == ("d/f", "d/l")


def test_a_directory_that_says_something_of_itself(tmp_path: Path) -> None:
    """user.component on a directory assigns everything below it to a layer of the image."""
    for name in ("lower/d", "upper/d"):
        (tmp_path / name).mkdir(parents=True)
    upper, lower = str(tmp_path / "upper"), str(tmp_path / "lower")
    layer = Layer(directory=upper, lower=lower, opaque="user.overlay.opaque")
    looks = [layer.stamps()]
    assert layer.changed({}, looks[0]) == ()
    for value in (b"one", b"other"):
        os.setxattr(tmp_path / "upper/d", "user.component", value)
        looks.append(layer.stamps())
        assert layer.changed({}, looks[-1]) == ("d",)
        assert layer.changed(*looks[-2:]) == ("d",)
        (change,) = layer.changes(["d"], *looks[-2:], store=None, writer="x")  # type: ignore[arg-type]
        assert change.entry is not None
        assert (change.entry.xattrs, change.opaque) == (((b"user.component", value),), False)
    assert layer.changed(looks[-1], layer.stamps()) == ()
    # a directory that was opaque before does not hide again what was added since
    os.setxattr(tmp_path / "upper/d", "user.overlay.opaque", b"y")
    opaque = layer.stamps()
    (change,) = layer.changes(["d"], looks[-1], opaque, store=None, writer="x")  # type: ignore[arg-type]
    assert change.opaque
    # a program may set the mark of an overlay of another kind
    other = Layer(directory=upper, lower=lower, opaque="trusted.overlay.opaque")
    (change,) = other.changes(["d"], {}, other.stamps(), store=None, writer="x")  # type: ignore[arg-type]
    assert not change.opaque
    os.removexattr(tmp_path / "upper/d", "user.component")
    (change,) = layer.changes(["d"], opaque, layer.stamps(), store=None, writer="x")  # type: ignore[arg-type]
    assert not change.opaque


def test_an_xattr_without_a_value_is_lost(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    layer = Layer(directory=str(tmp_path), lower="")
    before = layer.stamps()
    os.setxattr(tmp_path / "d", "user.empty", b"")
    after = layer.stamps()
    assert layer.changed(before, after) == ("d",)
    (change,) = layer.changes(["d"], before, after, store=None, writer="x")  # type: ignore[arg-type]
    assert change.entry is not None
    assert (change.entry.xattrs, change.lost) == ((), "xattr without a value")


def test_the_names_of_a_deletion_are_the_same_whenever_the_next_is_made(tmp_path: Path) -> None:
    """All whiteouts are hard links to one inode, whose ctime changes with each new one."""
    layer = Layer(directory="/nowhere", lower=str(tmp_path))
    whiteout = os.stat_result((stat.S_IFCHR, 7, 0, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": 0})
    found = layer._stamp(whiteout, "")
    assert layer.changed({"a": found}, {"a": found, "b": found}) == ("b",)
