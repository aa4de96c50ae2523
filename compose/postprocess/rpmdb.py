"""The rpm database: part of the image, so below /usr, where clients of every age look for it."""

from __future__ import annotations

import re

from compose.errors import PostprocessError
from compose.postprocess.contents import Contents, merge_into, write_file
from compose.tree import Tree, TreeEditor

WRITER = "step:rpmdb"
LOCATION = "usr/share/rpm"
SYSIMAGE = "usr/lib/sysimage/rpm"
BASE_COPY = "usr/lib/sysimage/rpm-ostree-base-db"
_LEGACY = "var/lib/rpm"
_MACROS = "usr/lib/rpm/macros.d/macros.rpm-ostree"
_DATABASES = ("rpmdb.sqlite", "Packages.db", "Packages")
_LEFTOVER = re.compile(r"\.rpm\.lock|\.dbenv\.lock|__db\..*")


def place(tree: Tree, store: Contents) -> Tree:
    """Put the database into /usr/share/rpm, with links from the other places and a macro that says so.

    Raises PostprocessError when there are two.
    """
    editor = tree.edit()
    found = [path for path in (LOCATION, SYSIMAGE, _LEGACY) if _has_database(editor, path)]
    if len(found) > 1:
        raise PostprocessError(f"the tree has more than one rpm database: {', '.join('/' + each for each in found)}")
    for path, link in ((SYSIMAGE, "../../share/rpm"), (_LEGACY, "../../usr/share/rpm")):
        entry = editor.get(path)
        if entry is not None and entry.is_dir:
            merge_into(editor, path, LOCATION, writer=WRITER)
            entry = None
        if entry is None or entry.target != link:
            editor.add_symlink(path, link, writer=WRITER)
    editor.add_dir(LOCATION, writer=WRITER)
    _remove_leftovers(editor, LOCATION)
    write_file(editor, _MACROS, b"%_dbpath /usr/share/rpm\n", store, writer=WRITER)
    return editor.build()


def copy_base(tree: Tree) -> Tree:
    """The second copy, which clients compare with after they have layered packages. No leftovers in either."""
    editor = tree.edit()
    editor.remove(BASE_COPY)
    _remove_leftovers(editor, LOCATION)
    editor.add_dir(BASE_COPY, writer=WRITER)
    for name in editor.children(LOCATION):
        entry = editor[f"{LOCATION}/{name}"]
        if entry.blob is not None:
            editor.add_file(f"{BASE_COPY}/{name}", entry.blob, entry.permissions, writer=WRITER)
    return editor.build()


def _has_database(editor: TreeEditor, path: str) -> bool:
    return any(name in _DATABASES for name in editor.children(path))


def _remove_leftovers(editor: TreeEditor, path: str) -> None:
    for name in editor.children(path):
        if _LEFTOVER.fullmatch(name):
            editor.remove(f"{path}/{name}")
