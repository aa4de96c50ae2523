"""/etc/machine-id: each machine has its own, so the image has none."""

from __future__ import annotations

from compose.postprocess.contents import Contents
from compose.tree import Tree

_PATH = "etc/machine-id"


def reset(tree: Tree, store: Contents, *, compat: bool) -> Tree:
    """Make /etc/machine-id empty, or absent without `compat`.

    systemd fills in an empty file at each boot until it is saved; an absent one triggers first-boot logic (ConditionFirstBoot).
    """
    editor = tree.edit()
    if not compat:
        editor.remove(_PATH)
        return editor.build()
    entry = editor.get(_PATH)
    if entry is None or entry.blob is None or entry.blob.size:
        editor.remove(_PATH)
        editor.add_file(_PATH, store.add_bytes(b"", 0o444), 0o444, writer="step:machine-id")
    return editor.build()
