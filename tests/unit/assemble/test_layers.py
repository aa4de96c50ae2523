"""ostree-layers laid over packages, by rpm-ostree's rules."""

from __future__ import annotations

import pytest

from compose.assemble.layers import lay_over
from compose.assemble.merge import merge
from compose.assemble.options import AssembleOptions, Layer
from compose.errors import AssembleError
from compose.tree import Tree
from tests.support.manifests import directory, file, link, package
from tests.support.treetext import MemoryStore, parse

BASE = merge(
    [
        package(
            "base",
            directory("usr"),
            directory("usr/bin"),
            link("bin", "usr/bin"),
            directory("etc"),
            file("etc/conf", "packaged"),
            file("usr/bin/tool", "tool", 0o755),
            file("usr/share/mine", "mine", user="daemon"),
        )
    ],
    AssembleOptions(epoch=0),
)


def laid(text: str, *, override: bool = False) -> Tree:
    return lay_over(BASE, (Layer(name="layer/x", tree=parse(text, MemoryStore()), override=override),))[0]


def test_new_files_come_and_say_who_brought_them() -> None:
    tree = laid('f usr/share/new 0640 "n"\nl usr/share/link new')
    assert (tree["usr/share/new"].permissions, tree["usr/share/new"].writer) == (0o640, "layer:layer/x")
    assert tree["usr/share/link"].target == "new"
    assert tree["usr/bin/tool"] == BASE.tree["usr/bin/tool"]


def test_usr_etc_of_a_layer_is_etc_until_the_end() -> None:
    tree = laid('f usr/etc/more 0644 "m"')
    assert "etc/more" in tree
    assert "usr/etc" not in tree


def test_a_directory_that_is_a_link_here_is_followed() -> None:
    assert "usr/bin/added" in laid('f bin/added 0755 "a"')


def test_the_same_file_is_no_conflict() -> None:
    assert laid('f usr/bin/tool 0755 "tool"')["usr/bin/tool"] == BASE.tree["usr/bin/tool"]


def test_a_directory_keeps_the_owner_and_mode_that_it_has() -> None:
    assert laid("d usr/bin 0700")["usr/bin"].permissions == 0o755


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('f usr/bin/tool 0755 "other"', "layer/x: /usr/bin/tool differs from the one in base-1-1.x86_64"),
        ('f usr/bin/tool 0700 "tool"', "layer/x: /usr/bin/tool differs"),
        ('f usr/etc/conf 0644 "layered"', "layer/x: /etc/conf differs"),
        ('f usr/bin 0644 ""', "layer/x: /usr/bin is a directory in one tree and not in the other"),
    ],
)
def test_a_layer_may_not_change_what_is_there(text: str, complaint: str) -> None:
    with pytest.raises(AssembleError, match=complaint):
        laid(text)


def test_owners_are_compared_too() -> None:
    with pytest.raises(AssembleError, match="/usr/bin/tool differs"):
        laid('f usr/bin/tool 0755 "tool" owner=3:0')


def test_every_conflict_is_listed() -> None:
    with pytest.raises(AssembleError, match="layer/x: 2 conflicts") as caught:
        laid('f usr/bin/tool 0755 "other"\nf usr/etc/conf 0644 "layered"')
    assert len(caught.value.details) == 2


def test_an_override_layer_may_and_then_owns_the_file() -> None:
    layer = Layer(name="o", tree=parse('f usr/share/mine 0644 "theirs" owner=3:4', MemoryStore()), override=True)
    tree, owners = lay_over(BASE, (layer,))
    assert (tree["usr/share/mine"].uid, tree["usr/share/mine"].gid) == (3, 4)
    assert "usr/share/mine" in BASE.owners
    assert "usr/share/mine" not in owners
    with pytest.raises(AssembleError, match="is a directory in one tree"):
        laid('f usr/bin 0644 ""', override=True)


def test_labels_of_a_layer_are_not_kept() -> None:
    tree = laid('f usr/share/new 0644 "n" xattr=security.selinux=00 xattr=user.x=01')
    assert tree["usr/share/new"].xattrs == ((b"user.x", b"\x01"),)


@pytest.mark.parametrize("override", [True, False])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('f usr/sbin/more 0755 "x"', "usr/bin/more"),
        ('d usr/sbin 0755\nf usr/sbin/more 0755 "x"', "usr/bin/more"),
        ('d sbin 0755\nf sbin/more 0755 "x"', "usr/bin/more"),
    ],
)
def test_directories_that_are_links_at_any_depth(text: str, place: str, override: bool) -> None:
    links = (link("bin", "usr/bin"), link("usr/sbin", "bin"), link("sbin", "usr/sbin"))
    base = merge([package("base", directory("usr"), directory("usr/bin"), *links)], AssembleOptions(epoch=0))
    layer = Layer(name="layer/x", tree=parse(text, MemoryStore()), override=override)
    tree, *_ = lay_over(base, (layer,))
    assert tree[place].is_file
    assert tree["usr/sbin"].target == "bin"
