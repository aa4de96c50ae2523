"""How a path differs between two commits, and what is no list of packages."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose import metadata
from compose.diff import Attributes, PathChange, diff_commits, packages_of
from compose.errors import RepositoryError
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.rpm.nevra import Nevra
from tests.support.commits import Item, write_commit, write_nested

FILE = Attributes(kind="file", mode=0o644, uid=0, gid=0, label="a", capability="", xattrs=(), size=1, content="x")


@pytest.mark.parametrize(
    ("change", "aspects"),
    [
        ({}, ()),
        ({"mode": 0o600}, ("mode",)),
        ({"uid": 1}, ("owner",)),
        ({"gid": 1, "label": "b"}, ("label", "owner")),
        ({"content": "y", "size": 2}, ("content",)),
        ({"capability": "01"}, ("capability",)),
        ({"xattrs": (("user.a", "00"),)}, ("xattrs",)),
        ({"kind": "symlink", "mode": 0o777}, ("kind",)),
    ],
)
def test_aspects(change: dict[str, Any], aspects: tuple[str, ...]) -> None:
    assert PathChange(path="p", before=FILE, after=replace(FILE, **change)).aspects == aspects


def test_what_comes_or_goes_has_none() -> None:
    assert PathChange(path="p", before=None, after=FILE).aspects == ()
    assert PathChange(path="p", before=FILE, after=None).aspects == ()


def with_list(value: Any) -> Commit:
    return Commit(
        metadata=((metadata.PKGLIST, Variant("v", value)),),
        parent=b"",
        subject="",
        body="",
        timestamp=0,
        root_tree=b"",
        root_meta=b"",
    )


def test_a_package_list() -> None:
    assert packages_of(replace(with_list(None), metadata=())) is None
    assert packages_of(with_list([("a", "", "1", "2", "noarch")])) == [
        Nevra(name="a", epoch=0, version="1", release="2", arch="noarch")
    ]


@pytest.mark.parametrize("value", ["abc", 5, [("a", "x", "1", "2", "noarch")], [("a", "1")]])
def test_what_is_no_package_list(value: Any) -> None:
    with pytest.raises(RepositoryError, match=r"rpmostree\.rpmdb\.pkglist of a commit is not a list of packages"):
        packages_of(with_list(value))


def test_directories_deeper_than_recursion_can_go(tmp_path: Path) -> None:
    depth = 400
    usual = sys.getrecursionlimit()
    with Repo.create(str(tmp_path / "repo")) as repo:
        before, after = (write_commit(repo, {path: Item()}) for path in ("d", "/".join("d" * depth)))
        sys.setrecursionlimit(300)
        try:
            assert len(diff_commits(repo, before, after).paths) == depth - 1
        finally:
            sys.setrecursionlimit(usual)


def test_more_paths_than_a_system_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compose.diff.MOST_PATHS", 1000)
    with Repo.create(str(tmp_path / "repo")) as repo:
        few, many = write_nested(repo, 4), write_nested(repo, 64)
        assert len(diff_commits(repo, write_commit(repo, {"x": Item()}), few).paths) == 31
        with pytest.raises(RepositoryError, match="differ in more than 1000 directories"):
            diff_commits(repo, few, many)
