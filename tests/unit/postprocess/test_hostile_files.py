"""Files of packages that a step does not expect, or that would keep it busy for hours."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import pytest

from compose.errors import PostprocessError
from compose.events import Reporter
from compose.postprocess import finish, kernel, nsswitch, rootfs, selinux, tmpfilesd
from compose.postprocess.layout import lay_out
from compose.postprocess.options import PostprocessOptions
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
    assert made.issuperset(expect(r'+ f etc/selinux/semanage.conf 0644 "store-root=/etc/selinux\n" @step:selinux'))


def test_a_transient_root_without_a_value() -> None:
    store = MemoryStore()
    tree: Tree = parse(r'f usr/lib/ostree/prepare-root.conf 0644 "[root]\ntransient\n"', store)
    with pytest.raises(PostprocessError, match=r"cannot parse /usr/lib/ostree/prepare-root\.conf"):
        rootfs.is_transient(tree, store)


@pytest.mark.parametrize(
    "path",
    ["etc/passwd", "etc/shadow", "etc/nsswitch.conf", "usr/lib/tmpfiles.d/a.conf", "usr/lib/ostree/prepare-root.conf"],
)
def test_a_file_of_a_terabyte_is_not_read(path: str) -> None:
    store = MemoryStore()
    editor = parse('f etc/passwd 0644 ""\nf usr/lib/modules/6.1/a.ko 0644 ""\nf etc/group 0644 ""', store).edit()
    blob = dataclasses.replace(store.add_bytes(b""), size=1 << 40)
    editor.add_file(path, blob, writer="package:huge-1-1.noarch")
    options = PostprocessOptions(container=True)
    with pytest.raises(PostprocessError, match=f"/{path} has 1099511627776 bytes") as caught:
        finish.finish(lay_out(editor.build(), options, store, Reporter())[0], options, store, None)
    assert caught.value.hint == "it is from package:huge-1-1.noarch"
