"""The pure finish: what must wait until all programs have run. /etc becomes /usr/etc here, once."""

from __future__ import annotations

import re
import stat

from compose.errors import PostprocessError
from compose.postprocess import accounts, cliwrap, initramfs, kernel, rootfs, rpmdb, var, volatile
from compose.postprocess.contents import Contents
from compose.postprocess.options import BootLocation, Dropped, PostprocessOptions
from compose.tree import Tree

WRITER = "step:cleanup"
_BACKUPS = ("passwd-", "group-", "shadow-", "gshadow-", "subuid-", "subgid-", ".pwd.lock")
_POLICY_LOCK = re.compile(r"semanage\..*\.LOCK")


def finish(
    tree: Tree, options: PostprocessOptions, store: Contents, kver: str | None
) -> tuple[Tree, tuple[Dropped, ...]]:
    """The tree as it is committed, and what was dropped. Raises PostprocessError."""
    tree, volatiles = volatile.settle(tree, store)
    # programs may have put files at the top level and into /boot
    if kver is not None:
        tree = kernel.clear_boot(tree)
        if not options.no_initramfs:
            tree = initramfs.finish(tree, store, kver)
        if options.boot_location is BootLocation.NEW:
            tree = kernel.copy_to_ostree_boot(tree, store, kver)
    tree = var.relocate_data(tree)
    tree, misplaced = rootfs.arrange(tree, store, opt_usrlocal=options.opt_usrlocal, tmp_is_dir=options.tmp_is_dir)
    tree = rootfs.link_tmp(tree, tmp_is_dir=options.tmp_is_dir)
    tree = var.add_tmpfiles(tree, store)
    tree, state = var.empty(tree)
    tree = accounts.split_accounts(tree, store, etc_group_members=options.etc_group_members)
    tree = accounts.normalise_shadow(tree, store, options.time)
    tree = accounts.enable_altfiles(tree, store)
    tree = set_machine_id(tree, store, compat=options.machineid_compat)
    tree = cliwrap.wrap(tree, store, options.cliwrap)
    tree = clean(tree)
    tree = rpmdb.copy_base(rpmdb.close(tree, store))
    tree = move_etc(tree)
    return tree, (*volatiles, *misplaced, *state)


def settle_again(tree: Tree, options: PostprocessOptions, store: Contents) -> tuple[Tree, tuple[Dropped, ...]]:
    """A finished tree after more programs have run: what they leave behind goes the way of what all others left. What they
    removed stays so."""
    tree, volatiles = volatile.settle(restore_etc(tree), store)
    tree, state = var.empty(var.add_tmpfiles(tree, store))
    tree = accounts.normalise_shadow(tree, store, options.time)
    if "etc/machine-id" in tree:
        tree = set_machine_id(tree, store, compat=options.machineid_compat)
    return move_etc(rpmdb.close(clean(tree), store)), (*volatiles, *state)


def is_finished(tree: Tree) -> bool:
    """Has finish() been here? Its last file says so."""
    return rpmdb.BASE_COPY in tree


def restore_etc(tree: Tree) -> Tree:
    """The reverse of move_etc(), for programs to run; a tree that has /etc stays as it is."""
    if "usr/etc" not in tree or tree.children("etc"):
        return tree
    editor = tree.edit()
    editor.remove("etc")
    editor.move("usr/etc", "etc")
    return editor.build()


def clean(tree: Tree) -> Tree:
    """Remove lock files and backups that account and policy tools leave in /etc."""
    editor = tree.edit()
    for name in _BACKUPS:
        editor.remove(f"etc/{name}")
    for policy in editor.children("etc/selinux"):
        for name in editor.children(f"etc/selinux/{policy}"):
            if _POLICY_LOCK.fullmatch(name):
                editor.remove(f"etc/selinux/{policy}/{name}")
    return editor.build()


def set_machine_id(tree: Tree, store: Contents, *, compat: bool) -> Tree:
    """An empty /etc/machine-id, which systemd fills on each boot until it is saved; without compat none at all, which
    makes the first boot one (ConditionFirstBoot)."""
    path = "etc/machine-id"
    editor = tree.edit()
    if not compat:
        editor.remove(path)
        return editor.build()
    entry = editor.get(path)
    if entry is None or entry.blob is None or entry.blob.size:
        editor.remove(path)
        editor.add_file(path, store.add_bytes(b"", 0o444), 0o444, writer="step:machine-id")
    return editor.build()


def move_etc(tree: Tree) -> Tree:
    """/etc becomes /usr/etc, the defaults that clients merge with the machine's. Raises PostprocessError when something
    is in /usr/etc already."""
    editor = tree.edit()
    if editor.children("usr/etc"):
        raise PostprocessError(
            f"Tree contains both /etc and /usr/etc ({', '.join(editor.children('usr/etc')[:5])})",
            hint="packages and scripts put configuration into /etc; the compose moves it",
        )
    editor.remove("usr/etc")
    if "etc" not in editor:
        editor.add_dir("etc", writer="step:etc")
    editor.replace("etc", mode=stat.S_IFDIR | 0o755, writer="step:etc")
    editor.move("etc", "usr/etc")
    return editor.build()
