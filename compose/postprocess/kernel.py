"""The kernel: exactly one, in /usr/lib/modules/KVER; /boot is empty.

Clients create their own boot entries from it.
"""

from __future__ import annotations

import hashlib
import re
import stat

from compose.errors import PostprocessError
from compose.postprocess.contents import Contents, encode, lines_of, merge_into, read_text, rewrite
from compose.tree import Tree, TreeEditor

WRITER = "step:kernel"
MODULES = "usr/lib/modules"
_OSTREE_BOOT = "usr/lib/ostree-boot"
_IN_BOOT = re.compile(r"vmlinuz-(?!0-rescue-)(.+)")
# Written by kernel-install for the machine it runs on: boot loader entries, rescue images, initramfs images.
_MACHINE_SPECIFIC = re.compile(
    r"[0-9a-f]{32}|loader|(vmlinuz|initramfs)-0-rescue-.*|(initramfs|initrd\.img)-.*|initrd\.img|vmlinuz"
)

# names in /usr/lib/modules/KVER: names in /usr/lib/ostree-boot, without the checksum
_BOOT_NAMES = {"vmlinuz": "vmlinuz-{}", "initramfs.img": "initramfs-{}.img"}
_PACKAGED = ("package:", "scriptlet:")
_MODULE = re.compile(r"\.ko(\.(gz|xz|zst))?$")


def place(tree: Tree, store: Contents, *, container: bool, no_initramfs: bool = False) -> tuple[Tree, str | None]:
    """Move the kernel to /usr/lib/modules/KVER/vmlinuz and the rest of /boot to /usr/lib/ostree-boot.

    Returns the tree and KVER. An initramfs is removed, because dracut will build one that boots OSTree; with no_initramfs only
    a package's. For a container the tree is unchanged and KVER None. Raises PostprocessError unless there is exactly one
    kernel, with modules.
    """
    if container:
        return tree, None
    editor = clear_boot(tree).edit()
    kernels = _kernels(editor)
    if not kernels:
        raise PostprocessError(
            f"no kernel: neither /{MODULES}/*/vmlinuz nor /boot/vmlinuz-* is in the tree",
            hint="add a kernel to `packages`, or set `container: true` for an image that is not booted",
        )
    if len(kernels) > 1:
        where = ", ".join("/" + path for paths in kernels.values() for path in paths)
        raise PostprocessError(f"the tree has {len(kernels)} kernels, but exactly one is allowed: {where}")
    ((kver, paths),) = kernels.items()
    directory = f"{MODULES}/{kver}"
    if not editor.children(directory):
        raise PostprocessError(f"the kernel /{paths[0]} has no modules in /{directory}")
    for path in paths:
        if path == f"{directory}/vmlinuz":
            continue
        present = editor.get(f"{directory}/vmlinuz")
        if present is not None and present.is_file:
            editor.remove(path)
        else:
            # a link to the one in /boot
            editor.remove(f"{directory}/vmlinuz")
            editor.replace(path, writer=WRITER)
            editor.move(path, f"{directory}/vmlinuz")
    for name in ("initramfs.img", "initramfs"):
        present = editor.get(f"{directory}/{name}")
        if present is not None and not (no_initramfs and not present.writer.startswith(_PACKAGED)):
            editor.remove(f"{directory}/{name}")
    if _OSTREE_BOOT in editor and not editor.children(_OSTREE_BOOT):
        editor.remove(_OSTREE_BOOT)
    _make_hmac_relative(tree, editor, f"{directory}/.vmlinuz.hmac", store)
    return editor.build(), kver


def version_of(tree: Tree) -> str | None:
    """KVER of a finished tree; None if it has no kernel."""
    return next((name for name in tree.children(MODULES) if f"{MODULES}/{name}/vmlinuz" in tree), None)


def clear_boot(tree: Tree) -> Tree:
    """Empty /boot: remove machine-specific files and move the rest to /usr/lib/ostree-boot."""
    boot = tree.get("boot")
    if boot is not None and boot.mode == stat.S_IFDIR | 0o755 and not tree.children("boot"):
        return tree
    editor = tree.edit()
    for name in editor.children("boot"):
        if _MACHINE_SPECIFIC.fullmatch(name):
            editor.remove(f"boot/{name}")
    if editor.children("boot"):
        editor.add_dir(_OSTREE_BOOT, writer=WRITER)
        merge_into(editor, "boot", _OSTREE_BOOT, writer=WRITER)
    editor.remove("boot")
    editor.add_dir("boot", writer=WRITER)
    return editor.build()


def _kernels(editor: TreeEditor) -> dict[str, list[str]]:
    """Kernel version to paths; the same kernel may be in both places."""
    found: dict[str, list[str]] = {}
    for kver in editor.children(MODULES):
        path = f"{MODULES}/{kver}/vmlinuz"
        if path in editor and editor[path].is_file:
            found.setdefault(kver, []).append(path)
    for name in editor.children(_OSTREE_BOOT):
        match = _IN_BOOT.fullmatch(name)
        if match and editor[f"{_OSTREE_BOOT}/{name}"].is_file:
            found.setdefault(match[1], []).append(f"{_OSTREE_BOOT}/{name}")
    return found


def _make_hmac_relative(tree: Tree, editor: TreeEditor, path: str, store: Contents) -> None:
    """Make the checksum file of a FIPS kernel name the kernel by a relative path, because clients move both."""
    text = read_text(tree, path, store)
    # a symlink may lead to a file that is no checksum
    if text is not None and path in editor and editor[path].is_file:
        rewrite(editor, path, encode(re.sub(r"(?m)^(\S++\s++).*/", r"\1", text)), store, writer=WRITER)


def is_module(path: str, kver: str) -> bool:
    """Is a path of the tree a module of this kernel?"""
    return path.startswith(f"{MODULES}/{kver}/") and _MODULE.search(path) is not None


def is_indexed(tree: Tree, store: Contents, kver: str) -> bool:
    """Does modules.dep list exactly the modules in the tree? Then depmod need not run again.

    Packages with a kernel or modules run depmod themselves, and running it again would take seconds.
    """
    directory = f"{MODULES}/{kver}"
    modules = {path.removeprefix(f"{directory}/") for path, _ in tree.walk(directory) if is_module(path, kver)}
    index = read_text(tree, f"{directory}/modules.dep", store) or ""
    return modules == {line.partition(":")[0] for line in lines_of(index)}


def copy_to_ostree_boot(tree: Tree, store: Contents, kver: str) -> Tree:
    """Copy kernel and initramfs to /usr/lib/ostree-boot for old clients, named by the checksum of both together. Raises
    PostprocessError if one is not a regular file."""
    editor = tree.edit()
    files = [(name, editor[f"{MODULES}/{kver}/{name}"]) for name in _BOOT_NAMES if f"{MODULES}/{kver}/{name}" in editor]
    digest = hashlib.sha256()
    for name, entry in files:
        if entry.blob is None:
            raise PostprocessError(f"/{MODULES}/{kver}/{name} is not a regular file", hint=f"it is from {entry.writer}")
        digest.update(store.read(entry.blob))
    for name, entry in files:
        assert entry.blob is not None
        path = f"{_OSTREE_BOOT}/{_BOOT_NAMES[name].format(kver)}-{digest.hexdigest()}"
        editor.add_file(path, entry.blob, entry.permissions, writer=WRITER)
    return editor.build()
