"""The pure finish: all steps that must follow the programs of the compose. Only here does /etc become /usr/etc."""

from __future__ import annotations

import re

from compose.postprocess import accounts, cliwrap, etc, initramfs, kernel, machineid, rootfs, rpmdb, var, volatile
from compose.postprocess.contents import Contents
from compose.postprocess.options import BootLocation, Dropped, PostprocessOptions
from compose.tree import Tree

WRITER = "step:cleanup"
_BACKUPS = ("passwd-", "group-", "shadow-", "gshadow-", "subuid-", "subgid-", ".pwd.lock")
_POLICY_LOCK = re.compile(r"semanage\..*\.LOCK")


def finish(
    tree: Tree, options: PostprocessOptions, store: Contents, kver: str | None
) -> tuple[Tree, tuple[Dropped, ...]]:
    """Return the tree as it will be committed, and what was dropped. Raises PostprocessError."""
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
    tree = machineid.reset(tree, store, compat=options.machineid_compat)
    tree = cliwrap.wrap(tree, store, options.cliwrap)
    tree = clean(tree)
    tree = rpmdb.copy_base(rpmdb.close(tree, store))
    tree = etc.move(tree)
    return tree, (*volatiles, *misplaced, *state)


def settle_again(tree: Tree, options: PostprocessOptions, store: Contents) -> tuple[Tree, tuple[Dropped, ...]]:
    """Clean up a finished tree after further programs, as finish() does after the others. What they removed stays removed."""
    tree, volatiles = volatile.settle(etc.restore(tree), store)
    tree, state = var.empty(var.add_tmpfiles(tree, store))
    tree = accounts.normalise_shadow(tree, store, options.time)
    if "etc/machine-id" in tree:
        tree = machineid.reset(tree, store, compat=options.machineid_compat)
    return etc.move(rpmdb.close(clean(tree), store)), (*volatiles, *state)


def is_finished(tree: Tree) -> bool:
    """Has the tree been through finish()? Tested by the last file that it makes."""
    return rpmdb.BASE_COPY in tree


def clean(tree: Tree) -> Tree:
    """Remove the lock files and backups that account and policy tools leave in /etc."""
    editor = tree.edit()
    for name in _BACKUPS:
        editor.remove(f"etc/{name}")
    for policy in editor.children("etc/selinux"):
        for name in editor.children(f"etc/selinux/{policy}"):
            if _POLICY_LOCK.fullmatch(name):
                editor.remove(f"etc/selinux/{policy}/{name}")
    return editor.build()
