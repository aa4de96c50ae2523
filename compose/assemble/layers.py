"""ostree-layers: lays the trees of commits over the tree of the packages.

The rules are rpm-ostree's. An ordinary layer may add files, or repeat existing ones with the same content and metadata
(OSTREE_REPO_CHECKOUT_OVERWRITE_UNION_IDENTICAL); an override layer replaces files (..._UNION_FILES). In both cases an existing
directory keeps its owner and mode. A layer's /usr/etc becomes /etc, where the compose's own configuration is at this stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from compose.assemble.merge import Merged, Owner
from compose.assemble.options import Layer
from compose.errors import AssembleError, TreeError
from compose.tree import Entry, Tree, TreeEditor, TreeLookupError

_LABEL = b"security.selinux"
_SHOWN = 20


def lay_over(merged: Merged, layers: Iterable[Layer]) -> tuple[Tree, dict[str, Owner]]:
    """The merged tree with the layers, and the owner names still to be resolved.

    Raises AssembleError listing conflicts of a layer.
    """
    owners = dict(merged.owners)
    editor = merged.tree.edit()
    for layer in layers:
        conflicts = [
            fault
            for path, entry in layer.tree.walk()
            if (fault := _lay(editor, owners, layer, path, entry)) is not None
        ]
        if conflicts:
            raise AssembleError.of(
                conflicts,
                f"{layer.name}: {len(conflicts)} conflicts with existing files",
                hint="name it in ostree-override-layers to let it replace files",
                most=_SHOWN,
            )
    return editor.build(), owners


def _lay(editor: TreeEditor, owners: dict[str, Owner], layer: Layer, source: str, entry: Entry) -> str | None:
    """Add one entry; returns the conflict, if any."""
    path = _place(editor, source, entry)
    present = editor.get(path)
    entry = replace(entry.with_xattr(_LABEL, None), writer=f"layer:{layer.name}")
    if present is not None:
        if present.is_dir and entry.is_dir:
            return None
        if present.is_dir or entry.is_dir:
            return f"{layer.name}: /{path} is a directory in one tree and not in the other"
        if _same(present, entry):
            return None
        if not layer.override:
            writer = present.writer.partition(":")[2]
            return f"{layer.name}: /{path} differs from the one in {writer}"
    try:
        editor.put(path, entry)
    except TreeError as error:
        return f"{layer.name}: {error}"
    owners.pop(path, None)
    return None


def _place(editor: TreeEditor, path: str, entry: Entry) -> str:
    """Translate a layer's path to the tree's: /usr/etc is /etc, and any directory may be a symlink (merged /usr, and
    /usr/sbin -> bin)."""
    if path == "usr/etc" or path.startswith("usr/etc/"):
        path = path.removeprefix("usr/")
    try:
        return editor.resolve(path, follow_last=entry.is_dir)
    except TreeLookupError:
        return path


def _same(present: Entry, entry: Entry) -> bool:
    # as in rpm-ostree, owner names are resolved later: until then root owns every file of a package
    contents = [file.blob.digest if file.blob else None for file in (present, entry)]
    return (
        contents[0] == contents[1]
        and (present.mode, present.target, present.xattrs) == (entry.mode, entry.target, entry.xattrs)
        and (present.uid, present.gid) == (entry.uid, entry.gid)
    )
