"""os-release: puts the commit's version into the name of the system."""

from __future__ import annotations

from compose.postprocess.contents import Contents, lines_of, read_text, resolve, rewrite, unlines
from compose.tree import Tree

_PATH = "etc/os-release"


def mutate(tree: Tree, store: Contents, *, base: str, version: str) -> Tree:
    """Replace `base` by `version` in VERSION and PRETTY_NAME, and add OSTREE_VERSION.

    A tree without os-release is unchanged; compose.lint reports it.
    """
    text = read_text(tree, _PATH, store)
    if text is None:
        return tree
    lines = [line for line in lines_of(text) if line.strip() and not line.startswith("OSTREE_VERSION=")]
    changed = [line.replace(base, version) if line.startswith(("VERSION=", "PRETTY_NAME=")) else line for line in lines]
    # quoted as for a shell: os-release(5)
    quoted = version.replace("'", "'\\''")
    changed.append(f"OSTREE_VERSION='{quoted}'")
    editor = tree.edit()
    rewrite(editor, resolve(tree, _PATH), unlines(changed), store, writer="step:os-release")
    return editor.build()
