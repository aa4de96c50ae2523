"""Who brought how much."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose import records
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.pipeline.inspect import weigh_commit
from compose.records import Records
from compose.weight import Row, Share, Weight, directory_of, growth, rows, source_of, sources, weigh
from tests.support.commits import Item, file, write_commit, write_nested

FILES = (
    ("usr/bin/bash", Share(objects=1, size=100, stored=40)),
    ("usr/bin/sh", Share(objects=1)),
    ("usr/lib/a/b", Share(objects=1, size=7, stored=9)),
    ("usr/lib/modules/1/vmlinuz", Share(objects=1, size=500, stored=490)),
)
WEIGHT = Weight(commit="ab", archive=True, files=FILES)


@pytest.mark.parametrize(
    ("writer", "name"),
    [
        ("package:bash-5.3-1.x86_64", "package bash"),
        ("package:gtk-doc-1:2-3.noarch", "package gtk-doc"),
        ("scriptlet:gtk-doc-1:2-3.noarch:%posttrans", "scriptlets of gtk-doc"),
        ("step:initramfs", "step:initramfs"),
        ("treefile:postprocess[0]", "treefile:postprocess[0]"),
    ],
)
def test_names_last_from_build_to_build(writer: str, name: str) -> None:
    assert source_of(writer) == name


@pytest.mark.parametrize(
    ("path", "depth", "name"),
    [("usr/lib/a/b", 2, "/usr/lib"), ("usr/lib/a/b", 9, "/usr/lib/a"), ("usr/x", 2, "/usr"), ("bin", 2, "/")],
)
def test_directories(path: str, depth: int, name: str) -> None:
    assert directory_of(path, depth) == name


def test_the_heaviest_first() -> None:
    assert WEIGHT.total == Share(objects=4, size=607, stored=539)
    by = WEIGHT.by(lambda path: directory_of(path, 2))
    assert list(by.items()) == [
        ("/usr/lib", Share(objects=2, size=507, stored=499)),
        ("/usr/bin", Share(objects=2, size=100, stored=40)),
    ]
    known = {"usr/bin/bash": "package:bash-5.3-1.x86_64", "usr/bin/sh": "package:bash-5.3-1.x86_64"}
    assert list(WEIGHT.by(sources(known))) == ["not recorded", "package bash"]


def test_beside_another() -> None:
    now = {"big": Share(objects=1, size=1000), "new": Share(objects=1, size=5), "less": Share(objects=1, size=1)}
    before = {"big": Share(objects=1, size=1000), "less": Share(objects=1, size=9), "gone": Share(objects=1, size=3)}
    found = rows(now, before)
    assert [(row.name, growth(row)) for row in found] == [("less", -8), ("new", 5), ("gone", -3), ("big", 0)]
    assert rows(now, None)[0] == Row(name="big", now=Share(objects=1, size=1000), before=None)


@pytest.mark.parametrize(("depth", "read"), [(None, ["now", "before"]), (1, ["now"])])
def test_only_records_that_are_shown_are_read(
    depth: int | None, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def recorded(repo: Repo, commit: str) -> Records:
        asked.append(commit)
        return Records(writers={"usr/a": "package:a-1-1.noarch"}, programs=())

    monkeypatch.setattr(records, "read", recorded)
    with Repo.create(str(tmp_path / "repo")) as repo:
        before = write_commit(repo, {"usr": Item(), "usr/a": file(b"a")})
        now = write_commit(repo, {"usr": Item(), "usr/a": file(b"aaa")})
    found = weigh_commit(repo.path, now, Reporter(), before=before, depth=depth)
    assert [{now: "now", before: "before"}[each] for each in asked] == read
    (row,) = found.rows
    assert (row.name, row.now.size, row.before and row.before.size) == ("/usr" if depth else "package a", 3, 1)
    assert found.files == (("usr/a", 3, "package a"),)
    assert found.before == row.before


def test_directories_that_stand_for_very_many_paths(tmp_path: Path) -> None:
    with Repo.create(str(tmp_path / "repo")) as repo:
        assert weigh(repo, write_nested(repo, 64), Reporter()).total == Share()
