"""A valid file is not parsed again, and the cached result is the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.errors import TreefileError
from compose.treefile import flatten, known, parse
from compose.treefile.known import KnownFiles
from compose.treefile.load import load_treefile
from tests.unit.treefile.test_shipped import DEMO, FEDORA

TOP = """\
include: [more.json, legacy.yaml, some.ks]
packages: [bash, 'a b', "1"]
metadata: {number: 1.5, text: "é \\u0001", none: null, yes: true, list: [1, [2]]}
variables: {debug: true}
conditional-include: [{if: debug == true, include: {documentation: false}}]
"""
FILES = {
    "top.yaml": TOP,
    "more.json": '{"packages": ["json"], "comment-1": "is warned of"}',
    "legacy.yaml": "boot_location: modules\nautomatic_version_prefix: x\n",
    "some.ks": "%packages\nfrom-ks\n%end\n",
}
# kickstart is quick to parse
CACHED = [name for name in FILES if not name.endswith(".ks")]


class Tree:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory = str(path / "memory")
        for name, text in FILES.items():
            (path / name).write_text(text)

    def load(self):
        """The treefile, what was met on the way, and what had to be read."""
        files = KnownFiles(self.memory)
        loaded = load_treefile(str(self.path / "top.yaml"), basearch="x86_64", known=files)
        new = sorted(files._new)
        files.keep()
        return loaded, new


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.fixture
def nothing_is_parsed(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"read again: {arguments}")

    for name in ("parse_yaml", "parse_json"):
        monkeypatch.setattr(parse, name, refuse)
    monkeypatch.setattr(flatten, "faults", refuse)


def test_it_means_the_same(tree, request):
    expected = load_treefile(str(tree.path / "top.yaml"), basearch="x86_64")
    first, new = tree.load()
    assert len(new) == len(CACHED)
    request.getfixturevalue("nothing_is_parsed")
    again, new = tree.load()
    assert not new
    assert first == again == expected
    assert any("comment-1" in warning for warning in again.warnings)


@pytest.mark.parametrize("path", [*FEDORA, *DEMO], ids=lambda path: path.stem)
def test_the_treefiles_of_the_project(path, tmp_path, request):
    files = KnownFiles(str(tmp_path))
    expected = load_treefile(str(path), basearch="x86_64", known=files)
    files.keep()
    request.getfixturevalue("nothing_is_parsed")
    assert load_treefile(str(path), basearch="x86_64", known=files) == expected


def test_a_file_that_changed_is_read(tree):
    tree.load()
    (tree.path / "top.yaml").write_text(TOP.replace("bash", "zsh"))
    loaded, new = tree.load()
    assert len(new) == 1
    assert "zsh" in [spec.text for spec in loaded.treefile.packages]


def test_places_are_those_of_now(tree):
    tree.load()
    (tree.path / "elsewhere").mkdir()
    for name in FILES:
        (tree.path / name).rename(tree.path / "elsewhere" / name)
    loaded = load_treefile(str(tree.path / "elsewhere/top.yaml"), basearch="x86_64", known=KnownFiles(tree.memory))
    assert {spec.place.split("/")[-2] for spec in loaded.treefile.packages} == {"elsewhere"}


def test_what_is_wrong_is_said_each_time(tree):
    (tree.path / "top.yaml").write_text("packages: [bash]\nselinux: maybe\nodd: 1\n")
    for _ in range(2):
        with pytest.raises(TreefileError) as caught:
            tree.load()
        assert ["selinux" in line or "odd" in line for line in caught.value.details] == [True, True]
    assert not os.path.exists(tree.memory)


@pytest.mark.parametrize(
    "harm",
    [lambda path: os.truncate(path, 60), os.unlink, lambda path: os.chmod(path, 0o666)],
    ids=["cut", "gone", "open"],
)
def test_damage_is_healed(tree, harm):
    expected, _ = tree.load()
    for name in os.listdir(tree.memory):
        harm(os.path.join(tree.memory, name))
    loaded, new = tree.load()
    assert len(new) == len(CACHED)
    assert loaded == expected
    assert tree.load() == (expected, [])


def test_another_schema_or_version_reads_anew(tree, monkeypatch):
    tree.load()
    monkeypatch.setattr(known, "schema_text", lambda: "{}")
    assert len(tree.load()[1]) == len(CACHED)
    monkeypatch.setattr(known.compose, "__version__", "next")
    assert len(tree.load()[1]) == len(CACHED)
