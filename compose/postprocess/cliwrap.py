"""cliwrap: replaces programs that would harm an OSTree system by wrappers that call rpm-ostree.

The originals go to /usr/libexec/rpm-ostree/wrapped, where `rpm-ostree cliwrap` looks for them.
"""

from __future__ import annotations

import re

from compose.errors import PostprocessError
from compose.postprocess.contents import Contents, read_text
from compose.tree import Tree

WRITER = "step:cliwrap"
_WRAPPED = "usr/libexec/rpm-ostree/wrapped"
_CLIENT = "usr/bin/rpm-ostree"
_PLACES = ("usr/bin", "usr/sbin")
# created even if the program does not exist, because people type them
_ALWAYS = ("yum", "dnf")
_KERNEL_INSTALL = "kernel-install"
_CONFIGURATION = "kernel/install.conf"
_LAYOUT = re.compile(r"(?m)^[ \t]*layout[ \t]*=[ \t]*(\S*)[ \t]*$")
_WRAPPER = """#!/usr/bin/sh
# Wrapped for OSTree (cliwrap in the treefile); the original is in /usr/libexec/rpm-ostree/wrapped
exec /usr/bin/rpm-ostree cliwrap $0 "$@"
"""


def wrap(tree: Tree, store: Contents, names: tuple[str, ...]) -> Tree:
    """Wrap the named programs. Raises PostprocessError if the tree has no rpm-ostree to call."""
    if not names:
        return tree
    if _CLIENT not in tree:
        raise PostprocessError(
            f"cliwrap: the tree has no /{_CLIENT}, which the wrapped programs would call",
            hint="add rpm-ostree to packages, or drop cliwrap",
        )
    editor = tree.edit()
    wrapper = store.add_bytes(_WRAPPER.encode(), 0o755)
    for name in names:
        if name == _KERNEL_INSTALL and _lays_out_for_ostree(tree, store):
            continue
        path = next((f"{place}/{name}" for place in _PLACES if f"{place}/{name}" in editor), None)
        if path is not None:
            original = editor[path]
            if original.blob is not None and original.blob.digest == wrapper.digest:
                # wrapped already
                continue
            editor.remove(path)
            editor.put(f"{_WRAPPED}/{name}", original)
        elif name not in _ALWAYS:
            continue
        editor.add_file(path or f"usr/bin/{name}", wrapper, 0o755, writer=WRITER)
    return editor.build()


def _lays_out_for_ostree(tree: Tree, store: Contents) -> bool:
    """Does kernel-install call rpm-ostree by itself (layout=ostree; kernel-install(8), "Files")?"""
    main = next((path for path in (f"etc/{_CONFIGURATION}", f"usr/lib/{_CONFIGURATION}") if path in tree), None)
    # a file in /etc replaces the one of the same name; whatever a drop-in sets counts more than the main file
    dropins = {
        name: f"{place}/{_CONFIGURATION}.d/{name}"
        for place in ("usr/lib", "etc")
        for name in tree.children(f"{place}/{_CONFIGURATION}.d")
        if name.endswith(".conf")
    }
    paths = [*([main] if main is not None else []), *(dropins[name] for name in sorted(dropins))]
    layouts = [layout for path in paths for layout in _LAYOUT.findall(read_text(tree, path, store) or "")]
    return layouts[-1:] == ["ostree"]
