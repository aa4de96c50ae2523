"""The kernel and its initramfs."""

from __future__ import annotations

import hashlib

import pytest

from compose.errors import PostprocessError
from compose.postprocess import initramfs, kernel
from tests.support.treetext import MemoryStore, changes, expect, parse

MODULES = 'f usr/lib/modules/6.1/kernel/a.ko.xz 0644 ""\n'
INITRAMFS = "usr/lib/modules/6.1/initramfs.img"


def test_a_kernel_in_modules_is_where_it_belongs() -> None:
    store = MemoryStore()
    before = parse(
        MODULES + 'f usr/lib/modules/6.1/vmlinuz 0755 "k"\nd usr/lib/modules/old/extra 0755\nd boot 0755', store
    )
    after, kver = kernel.place(before, store, container=False)
    assert (changes(before, after, store), kver) == ([], "6.1")


def test_boot_is_emptied_and_its_kernel_taken() -> None:
    store = MemoryStore()
    before = parse(
        MODULES
        + """
        d boot 0700
        f boot/vmlinuz-6.1 0644 "k"
        f boot/initrd.img-6.1 0644 "i"
        f boot/initramfs-6.1.img 0600 "i"
        f boot/vmlinuz-0-rescue-0123456789abcdef0123456789abcdef 0755 "k"
        f boot/0123456789abcdef0123456789abcdef/6.1/linux 0755 "k"
        f boot/loader/entries/x.conf 0644 ""
        l boot/vmlinuz vmlinuz-6.1
        f boot/config-6.1 0644 "c"
        f boot/efi/EFI/fedora/shim.efi 0700 "s"
        """,
        store,
    )
    after, kver = kernel.place(before, store, container=False)
    assert kver == "6.1"
    assert [line for line in changes(before, after, store) if line.startswith("+")] == expect(
        """
        + d boot 0755 @step:kernel
        + f usr/lib/modules/6.1/vmlinuz 0644 "k" @step:kernel
        + d usr/lib/ostree-boot 0755 @step:kernel
        + f usr/lib/ostree-boot/config-6.1 0644 "c" @package:test
        + d usr/lib/ostree-boot/efi 0755 @package:test
        + d usr/lib/ostree-boot/efi/EFI 0755 @package:test
        + d usr/lib/ostree-boot/efi/EFI/fedora 0755 @package:test
        + f usr/lib/ostree-boot/efi/EFI/fedora/shim.efi 0700 "s" @package:test
        """
    )
    assert after.children("boot") == []


def test_the_same_kernel_in_both_places_is_one() -> None:
    store = MemoryStore()
    before = parse(MODULES + 'f usr/lib/modules/6.1/vmlinuz 0755 "k"\nf boot/vmlinuz-6.1 0755 "k"', store)
    after, _ = kernel.place(before, store, container=False)
    assert changes(before, after, store) == ['- f boot/vmlinuz-6.1 0755 "k"']


def test_a_link_to_the_kernel_in_boot_becomes_the_kernel() -> None:
    store = MemoryStore()
    before = parse(
        MODULES + 'l usr/lib/modules/6.1/vmlinuz ../../../../boot/vmlinuz-6.1\nf boot/vmlinuz-6.1 0755 "k"', store
    )
    after, kver = kernel.place(before, store, container=False)
    assert kver == "6.1"
    assert changes(before, after, store) == expect(
        """
        - f boot/vmlinuz-6.1 0755 "k"
        - l usr/lib/modules/6.1/vmlinuz ../../../../boot/vmlinuz-6.1
        + f usr/lib/modules/6.1/vmlinuz 0755 "k" @step:kernel
        """
    )


def test_a_script_replaced_the_kernel_by_a_link() -> None:
    store = MemoryStore()
    with pytest.raises(PostprocessError, match="vmlinuz is not a regular file"):
        kernel.copy_to_ostree_boot(parse(MODULES + "l usr/lib/modules/6.1/vmlinuz elsewhere", store), store, "6.1")


def test_a_checksum_file_that_is_a_link_stays() -> None:
    store = MemoryStore()
    more = 'f usr/lib/modules/6.1/vmlinuz 0755 "k"\nl usr/lib/modules/6.1/.vmlinuz.hmac x\nf usr/lib/modules/6.1/x 0644 "a /b"'
    after, _ = kernel.place(parse(MODULES + more, store), store, container=False)
    assert after["usr/lib/modules/6.1/.vmlinuz.hmac"].target == "x"


def test_an_initramfs_of_a_package_is_removed_and_the_hmac_made_relative() -> None:
    store = MemoryStore()
    before = parse(
        MODULES
        + r"""
        d boot 0755
        f usr/lib/modules/6.1/vmlinuz 0755 "k"
        f usr/lib/modules/6.1/initramfs.img 0600 "i"
        f usr/lib/modules/6.1/.vmlinuz.hmac 0644 "abcdef  /boot/vmlinuz-6.1\n"
        """,
        store,
    )
    after, _ = kernel.place(before, store, container=False)
    assert changes(before, after, store) == expect(
        r"""
        - f usr/lib/modules/6.1/.vmlinuz.hmac 0644 "abcdef  /boot/vmlinuz-6.1\n"
        + f usr/lib/modules/6.1/.vmlinuz.hmac 0644 "abcdef  vmlinuz-6.1\n" @step:kernel
        - f usr/lib/modules/6.1/initramfs.img 0600 "i"
        """
    )


def test_without_dracut_only_a_package_s_initramfs_is_removed() -> None:
    store = MemoryStore()
    files = 'f usr/lib/modules/6.1/vmlinuz 0755 "k"\nf usr/lib/modules/6.1/initramfs.img 0600 "i"'
    before = parse(MODULES + files, store)
    for writer, is_kept in (
        ("package:kernel-6.1-1.x86_64", False),
        ("scriptlet:kernel-6.1-1.x86_64:%posttrans", False),
        ("step:add-files", True),
        ("treefile:postprocess[0]", True),
        # a root that is read back from a directory, as by compose commit
        ("rootfs", True),
    ):
        editor = before.edit()
        editor.replace(INITRAMFS, writer=writer)
        for no_initramfs in (True, False):
            after, _ = kernel.place(editor.build(), store, container=False, no_initramfs=no_initramfs)
            assert (INITRAMFS in after) is (is_kept and no_initramfs), (writer, no_initramfs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MODULES, "no kernel"),
        (
            MODULES + "f usr/lib/modules/6.1/vmlinuz 0755 ''\nf usr/lib/modules/6.2/vmlinuz 0755 ''",
            r"6\.1/vmlinuz, /usr.*6\.2",
        ),
        (
            "f usr/lib/modules/6.1/vmlinuz 0755 ''\nf usr/lib/modules/6.1/x 0644 ''\nf boot/vmlinuz-7 0755 ''",
            "2 kernels",
        ),
        ("f boot/vmlinuz-7 0755 ''", "no modules"),
    ],
)
def test_exactly_one_kernel(text: str, message: str) -> None:
    store = MemoryStore()
    with pytest.raises(PostprocessError, match=message):
        kernel.place(parse(text, store), store, container=False)


def test_a_container_needs_none() -> None:
    store = MemoryStore()
    before = parse("f boot/grub/x 0644 ''", store)
    assert kernel.place(before, store, container=True) == (before, None)


def test_copies_for_old_clients_are_named_by_both() -> None:
    store = MemoryStore()
    before = parse('f usr/lib/modules/6.1/vmlinuz 0755 "kern"\nf usr/lib/modules/6.1/initramfs.img 0644 "init"', store)
    name = hashlib.sha256(b"kerninit").hexdigest()
    assert changes(before, kernel.copy_to_ostree_boot(before, store, "6.1"), store) == expect(
        f"""
        + d usr/lib/ostree-boot 0755 @step:kernel
        + f usr/lib/ostree-boot/initramfs-6.1.img-{name} 0644 "init" @step:kernel
        + f usr/lib/ostree-boot/vmlinuz-6.1-{name} 0755 "kern" @step:kernel
        """
    )


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (r"kernel/a.ko.xz: kernel/b.ko.xz\nkernel/b.ko.xz:\n", True),
        (r"kernel/a.ko.xz:\n", False),
        (r"kernel/a.ko.xz:\nkernel/b.ko.xz:\nkernel/gone.ko.xz:\n", False),
    ],
)
def test_is_the_index_of_modules_whole(index: str, expected: bool) -> None:
    store = MemoryStore()
    tree = parse(
        MODULES + f'f usr/lib/modules/6.1/kernel/b.ko.xz 0644 ""\nf usr/lib/modules/6.1/modules.dep 0644 "{index}"',
        store,
    )
    assert kernel.is_indexed(tree, store, "6.1") is expected


DRACUT = (
    "f usr/bin/dracut 0755 ''\nd usr/lib/dracut/modules.d/98ostree 0755\nf usr/lib/modules/6.1/vmlinuz 0644 'kernel'\n"
)


def test_dracut_s_arguments() -> None:
    program = initramfs.dracut(parse(DRACUT, MemoryStore()), "6.1", ("--no-hostonly", "--add", "iscsi"), 1)
    assert program.argv[0] == "/usr/bin/dracut"
    assert program.argv[-6:] == (
        "--no-hostonly",
        "--add",
        "iscsi",
        "--kver",
        "6.1",
        "/usr/lib/modules/6.1/initramfs.img",
    )
    assert {"--reproducible", "--force", "ostree"} <= set(program.argv)
    assert ("DRACUT_NO_MKNOD", "1") in program.environment
    # no later than the compose, and no later than the kernel: what else is newer does not change it
    assert dict(program.environment)["SOURCE_DATE_EPOCH"] == "0"


@pytest.mark.parametrize(
    ("text", "message"), [("", "no /usr/bin/dracut"), ("f usr/bin/dracut 0755 ''", "dracut's module `ostree`")]
)
def test_what_is_missing_for_an_initramfs(text: str, message: str) -> None:
    with pytest.raises(PostprocessError, match=message) as caught:
        initramfs.dracut(parse(text, MemoryStore()), "6.1", (), 1)
    assert caught.value.hint is not None


def test_the_finished_initramfs() -> None:
    store = MemoryStore()
    before = parse('f usr/lib/modules/6.1/initramfs.img 0600 "12345"', store)
    entry = initramfs.finish(before, store, "6.1")["usr/lib/modules/6.1/initramfs.img"]
    assert entry.blob is not None
    data = store.read(entry.blob)
    assert entry.permissions == 0o644
    assert data.startswith(b"12345" + bytes(7) + b"070701")
    assert len(data) % 4 == 0


def test_an_initramfs_that_was_not_made() -> None:
    store = MemoryStore()
    with pytest.raises(PostprocessError, match="not there"):
        initramfs.finish(parse(MODULES, store), store, "6.1")
