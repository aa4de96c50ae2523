"""The pure layout: every step that can precede the programs of the compose. /etc stays in place."""

from __future__ import annotations

from compose.events import Reporter
from compose.postprocess import etc, files, initramfs, kernel, machineid, osrelease, rootfs, rpmdb, selinux, units, var
from compose.postprocess.contents import Contents
from compose.postprocess.options import Dropped, OptUsrLocal, PostprocessOptions
from compose.tree import Tree


def lay_out(
    tree: Tree, options: PostprocessOptions, store: Contents, reporter: Reporter
) -> tuple[Tree, str | None, tuple[Dropped, ...]]:
    """Return the tree for the programs of the compose to see, the kernel's version (None without one), and what was dropped.

    Raises PostprocessError.
    """
    tree = etc.adopt(tree)
    if not options.container:
        tree = kernel.clear_boot(tree)
    # dracut reads it, and must not see the one that a scriptlet made for this build
    tree = machineid.reset(tree, store, compat=options.machineid_compat)
    tree = rpmdb.place(tree, store)
    tree = selinux.move_store(tree, store)
    tree = selinux.set_home(tree, store)
    tree = selinux.edit_aliases(tree, store)
    tree = var.relocate_data(tree)
    tree, dropped = rootfs.arrange(tree, store, opt_usrlocal=options.opt_usrlocal, tmp_is_dir=options.tmp_is_dir)
    tree = var.add_integration(tree, store, opt_usrlocal=options.opt_usrlocal)
    tree = var.add_tmpfiles(tree, store)
    if options.units:
        tree = units.enable(tree, options.units)
    if options.default_target is not None:
        tree = units.set_default_target(tree, options.default_target)
    if options.opt_usrlocal is OptUsrLocal.STATE_OVERLAY:
        tree = units.require_state_overlays(tree)
    if options.treefile_json is not None:
        tree = files.record_treefile(tree, store, options.treefile_json)
    if options.mutate_os_release is not None:
        if options.version is None:
            reporter.info("mutate-os-release: the commit has no version, os-release is unchanged")
        else:
            tree = osrelease.mutate(tree, store, base=options.mutate_os_release, version=options.version)
    if options.remove_files:
        tree = files.remove(tree, options.remove_files)
    tree = files.add(tree, store, options.add_files)
    # last, as remove-files may remove a second kernel
    laid_out, kver = kernel.place(tree, store, container=options.container, no_initramfs=options.no_initramfs)
    if kver is not None and not options.no_initramfs:
        path = initramfs.path_of(kver)
        given = tree.get(path)
        if given is not None and given.writer == files.WRITER:
            reporter.warn(
                f"add-files: /{path} is replaced by the initramfs that dracut builds; to keep the file, set no-initramfs: true"
            )
    return laid_out, kver, dropped
