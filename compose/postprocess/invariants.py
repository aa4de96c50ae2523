"""What clients rely on in a commit: checked on the finished tree, whatever made it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compose.errors import PostprocessError
from compose.postprocess import kernel, rpmdb
from compose.postprocess.contents import Contents, read_text
from compose.postprocess.options import PostprocessOptions
from compose.tree import Tree

_MOUNT_POINTS = ("dev", "proc", "run", "sys", "sysroot", "var")
_MERGED = ("bin", "sbin", "lib", "lib64")
_SHADOW = ("usr/etc/shadow", "usr/etc/gshadow")


def check(tree: Tree, options: PostprocessOptions, store: Contents) -> tuple[str, ...]:
    """Warnings about what a client can live without. Raises PostprocessError for what it cannot, all faults together."""
    faults = list(_faults(tree, options, store))
    if faults:
        raise PostprocessError(f"no client could use this tree: {faults[0]}", details=faults[1:])
    return tuple(_doubts(tree))


def _faults(tree: Tree, options: PostprocessOptions, store: Contents) -> Iterator[str]:
    if "etc" in tree:
        yield "it has /etc beside /usr/etc"
    if not tree.is_dir("usr/etc"):
        yield "it has no /usr/etc"
    for name in _MOUNT_POINTS:
        if not tree.is_dir(name):
            yield f"/{name} is not a directory"
        elif tree.children(name):
            yield f"/{name} is not empty ({tree.children(name)[0]})"
    link = tree.get("ostree")
    if link is None or link.target != "sysroot/ostree":
        yield "/ostree is not a link to sysroot/ostree"
    for path in _SHADOW:
        if path in tree and tree[path].permissions:
            yield f"/{path} has mode {tree[path].permissions:04o}, anybody could read it one day; 0000 is meant"
    if not options.container:
        yield from _boot_faults(tree, store)


def _boot_faults(tree: Tree, store: Contents) -> Iterator[str]:
    kernels = [
        f"/{kernel.MODULES}/{name}/vmlinuz"
        for name in tree.children(kernel.MODULES)
        if f"{kernel.MODULES}/{name}/vmlinuz" in tree
    ]
    if len(kernels) != 1:
        yield f"it has {len(kernels)} kernels in /{kernel.MODULES}, one is needed {', '.join(kernels)}".rstrip()
    elif not tree[kernels[0][1:]].is_file:
        yield f"{kernels[0]} is not a regular file"
    if not tree.is_dir("boot") or tree.children("boot"):
        yield "/boot is not an empty directory"
    release = read_text(tree, "usr/lib/os-release", store) or read_text(tree, "usr/etc/os-release", store) or ""
    if not re.search(r"(?m)^(PRETTY_NAME|ID)=", release):
        yield "no os-release with PRETTY_NAME or ID: the boot menu needs a name"


def _doubts(tree: Tree) -> Iterator[str]:
    for name in _MERGED:
        entry = tree.get(name)
        if entry is not None and not entry.is_symlink:
            yield f"/{name} is a directory: clients expect a link into /usr"
    if not tree.children(rpmdb.LOCATION):
        yield f"no rpm database in /{rpmdb.LOCATION}: clients cannot list packages"
