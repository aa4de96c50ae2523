"""Files that %pretrans left where packages ship some: which of the two is in the tree."""

from __future__ import annotations

import pytest

from compose.assemble.early import lay_under
from compose.assemble.merge import merge
from compose.assemble.options import AssembleOptions
from compose.rpm.manifest import FileFlag
from compose.tree import Entry, Tree
from tests.support.manifests import directory, file, link, package
from tests.support.treetext import MemoryStore, parse

CONFIG, NOREPLACE = FileFlag.CONFIG, FileFlag.CONFIG | FileFlag.NOREPLACE


def laid(found: str, *files: object) -> tuple[Tree, dict[str, str]]:
    """The tree, and the user of each path that a package ships."""
    ordered = [package("one", *files, directory("etc"))]  # type: ignore[arg-type]
    merged = merge(ordered, AssembleOptions(epoch=0))
    tree, owners = lay_under(merged.tree, merged.owners, parse(found, MemoryStore()), ordered)
    return tree, {path: owner.user for path, owner in owners.items()}


def maker(entry: Entry) -> str:
    return "package" if entry.writer == "package:one-1-1.x86_64" else "script"


def test_what_no_package_has_is_added() -> None:
    tree, owners = laid('l usr/sbin bin\nf etc/made 0644 "x"\nd etc 0700', file("usr/bin/a"))
    assert (tree["usr/sbin"].target, tree["etc/made"].permissions) == ("bin", 0o644)
    assert (tree["etc"].permissions, maker(tree["etc"])) == (0o755, "package")
    assert owners.keys() == {"usr/bin/a", "etc"}


def test_nothing_is_put_below_what_is_no_directory() -> None:
    tree, _ = laid('f usr/share/a/b 0644 "x"', link("usr/share/a", "c"))
    assert tree["usr/share/a"].target == "c"


@pytest.mark.parametrize(
    ("flags", "content", "expected"),
    [
        (FileFlag(0), "theirs", {"etc/a": "package"}),
        (CONFIG, "theirs", {"etc/a": "package", "etc/a.rpmorig": "script"}),
        (NOREPLACE, "theirs", {"etc/a": "script", "etc/a.rpmnew": "package"}),
        (NOREPLACE, "ours", {"etc/a": "package"}),
    ],
)
def test_a_file_at_a_package_s_path(flags: FileFlag, content: str, expected: dict[str, str]) -> None:
    tree, owners = laid(f'f etc/a 0644 "{content}"', file("etc/a", "ours", user="bin", flags=flags))
    assert {path: maker(entry) for path, entry in tree.walk("etc") if entry.is_file} == expected
    # the script's file is root's, the package's keeps its owner
    assert {path for path, user in owners.items() if user == "bin"} == {
        path for path, who in expected.items() if who == "package"
    }
