"""Which component an object belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from compose.errors import ImageError
from compose.oci.contentmeta import ALWAYS, UNPACKAGED, CommitFiles, ContentMeta, content_meta, read_files
from compose.ostree.repo import Repo
from compose.rpm.brought import BroughtFiles
from compose.rpm.nevra import Nevra
from tests.support.commits import Item, file, write_commit
from tests.support.treetext import MemoryStore, parse
from tests.unit.oci.test_source import Counting

_DAY = 86400
_NOW = 20_000 * _DAY
_BASH = "usr/bin/bash"


def package(
    name: str, *files: str, version: str = "1", epoch: int = 0, built: int = _NOW, changes: Sequence[int] = ()
) -> BroughtFiles:
    return BroughtFiles(
        nevra=Nevra(name=name, epoch=epoch, version=version, release="1", arch="x86_64"),
        source_rpm=f"{name}-{version}-1.src.rpm",
        build_time=built,
        changes=tuple(changes),
        files=files,
    )


def meta(text: str, *packages: BroughtFiles) -> ContentMeta:
    """An object for each content, mode and set of xattrs."""
    tree = parse(text, MemoryStore())
    paths, sizes = {}, {}
    for path, entry in tree.walk():
        if not entry.is_dir:
            what = (entry.mode, entry.xattrs, entry.blob and entry.blob.digest, entry.target)
            paths[path] = hashlib.sha256(repr(what).encode()).hexdigest()
            sizes[paths[path]] = entry.blob.size if entry.blob else 0
    return content_meta(CommitFiles(paths=paths, sizes=sizes, tree=tree), packages)


def owners(text: str, *packages: BroughtFiles) -> dict[str, int]:
    """Name to bytes."""
    return {each.name: each.size for each in meta(text, *packages).components}


def exclusive(name: str) -> str:
    return f"xattr=user.component={name.encode().hex()}"


def test_a_package_and_what_none_brought():
    found = meta('f usr/bin/bash 0755 "bash"\nf usr/lib/other 0644 "xy"', package("bash", _BASH, epoch=1))
    bash, other = found.components
    assert (bash.name, bash.identifier, bash.source) == ("bash", "bash-1:1-1.x86_64", "bash-1-1.src.rpm")
    assert (bash.size, len(bash.objects), bash.change_time_offset, bash.change_frequency) == (4, 1, 0, 0)
    assert (other.name, other.identifier, other.source) == (UNPACKAGED, UNPACKAGED, UNPACKAGED)
    assert (other.size, other.change_time_offset, other.change_frequency) == (2, ALWAYS, ALWAYS)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("l bin usr/bin\nf usr/bin/x 0755 xxx", "bin/x"),
        ("l usr/sbin bin\nf usr/bin/x 0755 xxx", "usr/sbin/x"),
        ("l sbin usr/sbin\nl usr/sbin bin\nf usr/bin/x 0755 xxx", "sbin/x"),
        ("f usr/etc/x 0755 xxx", "etc/x"),
        ("l usr/etc/a b\nl usr/lib/x /etc/a\nf usr/etc/b/x 0755 xxx", "usr/lib/x/x"),
        ("d boot 0755\nf usr/lib/ostree-boot/x 0755 xxx", "boot/x"),
        ("d boot 0755\nf usr/lib/modules/6.1/vmlinuz 0755 xxx", "boot/vmlinuz-6.1"),
        ("l opt var/opt\nf usr/lib/opt/x/y 0755 xxx", "opt/x/y"),
        ("f opt/x/y 0755 xxx", "opt/x/y"),
        ("f usr/lib/alternatives/x 0755 xxx", "var/lib/alternatives/x"),
        ("d var 0755\nf usr/etc/selinux/targeted/x 0755 xxx", "var/lib/selinux/targeted/x"),
        ("f boot/x 0755 xxx", "boot/x"),
        ("l usr/bin/x y", "usr/bin/x"),
    ],
)
def test_where_a_commit_has_what_a_package_put_elsewhere(text: str, path: str):
    assert "it" in owners(f"d usr 0755\n{text}", package("it", path))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("f usr/x 0644 xxx", "usr/x/y"),
        ("l usr/a b\nl usr/b a", "usr/a/x"),
        ("d usr/x 0755", "usr/x"),
        ("d usr 0755", "var/lib/x"),
        ("f var 0644 xxx", "var/lib/alternatives/x"),
    ],
)
def test_what_a_commit_does_not_have(text: str, path: str):
    assert "it" not in owners(text, package("it", path))


def test_an_object_of_many_has_one_owner():
    text = 'f usr/a 0644 "same"\nf usr/b 0644 "same"\nf usr/c 0644 "same"\nf usr/d 0644 "same"'
    zero, one = package("zero", "usr/a"), package("one", "usr/b", "usr/c")
    assert owners(text, zero, one) == owners(text, one, zero) == {"one": 4}
    # whatever the order of its paths
    assert owners(text, package("zero", "usr/c"), package("one", "usr/a")) == {"one": 4}


def test_a_path_of_many_has_one_owner():
    text = 'f usr/a 0644 "same"'
    found = meta(text, package("it", "usr/a", version="2"), package("it", "usr/a"))
    assert [each.identifier for each in found.components] == ["it-1-1.x86_64"]


def test_the_initramfs_is_one_by_itself():
    place = "usr/lib/modules/6.1"
    text = f'f {place}/vmlinuz 0644 "kernel"\nf {place}/initramfs.img 0600 "ram"\nf usr/lib/modules/6.0/x 0644 "no"'
    found = meta(text, package("kernel", f"{place}/vmlinuz", f"{place}/initramfs.img"))
    assert [(each.name, each.size) for each in found.components] == [("kernel", 6), ("initramfs", 3), (UNPACKAGED, 2)]
    assert found.components[1].identifier == "initramfs (kernel 6.1)"
    assert found.components[1].change_frequency == ALWAYS


def test_components_that_want_a_layer_of_their_own():
    text = f"""
d usr/share/maps 0755 {exclusive("maps")}
d usr/share/maps/part 0755
f usr/share/maps/part/a 0644 "1"
f usr/share/maps/sea 0644 "22" {exclusive("sea")}
d usr/share/maps/land 0755 {exclusive("land")}
f usr/share/maps/land/b 0644 "333"
f usr/share/other 0644 "4444"
f usr/share/alike 0644 "1"
"""
    found = meta(text, package("it", "usr/share/maps/part/a", "usr/share/maps/land/b", "usr/share/other"))
    assert [(each.name, each.size, each.exclusive) for each in found.components] == [
        ("it", 4, False), ("land", 3, True), ("sea", 2, True), ("maps", 1, True),
    ]  # fmt: skip
    assert {each.source for each in found.components[1:]} == {"component:land", "component:sea", "component:maps"}
    assert all(each.change_frequency == ALWAYS for each in found.components[1:])


@pytest.mark.parametrize("value", ["2c", "00", "612c62", "ff", "610a"])
def test_what_names_no_component(value: str):
    with pytest.raises(ImageError, match=r"/usr/x: user\.component is b'"):
        meta(f'f usr/x 0644 "" xattr=user.component={value}', package("it"))


def test_how_often_and_when_packages_change():
    changes = [_NOW + 5, _NOW, _NOW - 364 * _DAY, _NOW - 366 * _DAY + 1, _NOW - 366 * _DAY, 0]
    found = meta(
        'f usr/a 0644 "333"\nf usr/b 0644 "22"\nf usr/c 0644 "1"',
        package("a", "usr/a", changes=changes),
        package("b", "usr/b", built=_NOW - 7199),
        package("c", "usr/c", built=_NOW - 2 * _DAY, changes=changes[:2]),
    )
    rows = [(each.name, each.change_time_offset, each.change_frequency) for each in found.components]
    assert rows == [("a", 48, 4), ("b", 46, 0), ("c", 0, 2)]


def test_json():
    found = meta('f usr/a 0644 "333"', package("a", "usr/a", built=_NOW))
    row = {
        "identifier": "a-1-1.x86_64", "name": "a", "srcid": "a-1-1.src.rpm",
        "change_time_offset": 0, "change_frequency": 0, "size": 3,
    }  # fmt: skip
    assert json.loads(found.json()) == [row]
    assert list(json.loads(found.json())[0]) == list(row)


def test_its_progress_counts_every_path(tmp_path: Path):
    reporter = Counting()
    with Repo.create(str(tmp_path / "repo")) as repo:
        read_files(repo, write_commit(repo, {"a": file(b"x"), "b": Item()}), reporter)
    assert reporter.done == reporter.total == 3
