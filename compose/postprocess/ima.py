"""IMA signatures that were made without root: user.ima, which the owner of a file may set, becomes security.ima, which the
kernel reads.

`evmctl ima_sign --xattr-user` writes them, in a treefile's script or in a root directory. Only commits have security.ima: in a
directory it takes the machine's root to set it.
"""

from __future__ import annotations

from compose.tree import Tree

_MADE, _READ = b"user.ima", b"security.ima"


def translate(tree: Tree) -> Tree:
    """The tree with security.ima in place of each user.ima, as rpm-ostree commits it."""
    signed = {}
    for path, entry in tree.entries.items():
        if entry.xattrs and (signature := dict(entry.xattrs).get(_MADE)) is not None:
            signed[path] = entry.with_xattr(_MADE, None).with_xattr(_READ, signature)
    return tree.with_entries({**tree.entries, **signed}) if signed else tree
