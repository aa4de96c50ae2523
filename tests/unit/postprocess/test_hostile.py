"""Files of packages that a step does not expect, or that would keep it busy for hours."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from compose.errors import PostprocessError
from compose.postprocess import kernel, nsswitch, rootfs, selinux, tmpfilesd
from compose.tree import Tree
from tests.support.treetext import MemoryStore, changes, expect, parse

_MANY = 20_000
_HMAC = "usr/lib/modules/6.1/.vmlinuz.hmac"
_KERNEL = 'f usr/lib/modules/6.1/vmlinuz 0755 "k"\nd boot 0755\nf usr/lib/modules/6.1/a.ko 0644 ""\n'
_STORE = 'f var/lib/selinux/targeted/active/modules/x 0600 ""\n'


def _hmac(text: str) -> object:
    store = MemoryStore()
    editor = parse(_KERNEL, store).edit()
    editor.add_file(_HMAC, store.add_bytes(text.encode()), writer="package:test")
    return kernel.place(editor.build(), store, container=False)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda text: list(tmpfilesd.paths(text)), "d" + " " * _MANY + '"'),
        (lambda text: list(tmpfilesd.paths(text)), 'd "' + r"\"" * _MANY),
        (nsswitch.with_altfiles, "passwd: " + "a [ " * _MANY),
        (nsswitch.with_altfiles, "passwd: files [" + "a" * _MANY + "]"),
        (nsswitch.with_altfiles, "passwd: files [" + " " * _MANY + "]"),
        (nsswitch.with_altfiles, "passwd: files [" + "! " * _MANY + "]"),
        (_hmac, "x" + " " * 4 * _MANY + "y\n"),
    ],
)
def test_time_grows_with_the_length_of_a_line(read: Callable[[str], object], text: str) -> None:
    begun = time.process_time()
    read(text)
    assert time.process_time() - begun < 2


def test_a_link_in_place_of_the_kernel_s_checksum_is_left_alone() -> None:
    store = MemoryStore()
    before = parse(_KERNEL + f'f etc/fstab 0644 "a  /b"\nl {_HMAC} /etc/fstab', store)
    after, _ = kernel.place(before, store, container=False)
    assert changes(before, after, store) == []


@pytest.mark.parametrize("there", ["d etc/selinux/semanage.conf 0755", "l etc/selinux/semanage.conf /nowhere"])
def test_semanage_conf_is_no_file(there: str) -> None:
    store = MemoryStore()
    before = parse(_STORE + there, store)
    made = set(changes(before, selinux.move_store(before, store), store))
    assert made.issuperset(expect(r'+ f etc/selinux/semanage.conf 0644 "store-root = /etc/selinux\n" @step:selinux'))


def test_a_transient_root_without_a_value() -> None:
    store = MemoryStore()
    tree: Tree = parse(r'f usr/lib/ostree/prepare-root.conf 0644 "[root]\ntransient\n"', store)
    with pytest.raises(PostprocessError, match=r"cannot parse /usr/lib/ostree/prepare-root\.conf"):
        rootfs.is_transient(tree, store)
