"""The rpm database: part of the image, hence below /usr, and reachable from all places where clients have looked for it."""

from __future__ import annotations

import re

from compose.errors import PostprocessError
from compose.postprocess.contents import Contents, merge_into, rewrite, write_file
from compose.tree import Tree, TreeEditor

WRITER = "step:rpmdb"
LOCATION = "usr/share/rpm"
SYSIMAGE = "usr/lib/sysimage/rpm"
BASE_COPY = "usr/lib/sysimage/rpm-ostree-base-db"
_LEGACY = "var/lib/rpm"
_MACROS = "usr/lib/rpm/macros.d/macros.rpm-ostree"
_DATABASES = ("rpmdb.sqlite", "Packages.db", "Packages")
# also what the scriptlets of package rpm leave where they have linked /var/lib/rpm to it
_LEFTOVER = re.compile(r"\.(rpm|keyring|dbenv)\.lock|\.rpmdbdirsymlink_created|__db\..*|rpmdb\.sqlite-shm")
_SQLITE, _WAL = "rpmdb.sqlite", "rpmdb.sqlite-wal"
# "File format write version", then "read version": 1 for a rollback journal, 2 for a WAL (sqlite.org/fileformat2.html, 1.3)
_JOURNAL_MODE = slice(18, 20)


def place(tree: Tree, store: Contents) -> Tree:
    """Move the database to /usr/share/rpm, with symlinks from its other locations and a macro for the path.

    Raises PostprocessError if there is more than one.
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


def close(tree: Tree, store: Contents) -> Tree:
    """Take the database out of WAL mode, so that it is a single file and can be read on a read-only /usr.

    rpm leaves an empty write-ahead log and the mode in the database's header. A log with content holds packages and stays.
    """
    editor = tree.edit()
    _remove_leftovers(editor, LOCATION)
    wal, path = tree.get(f"{LOCATION}/{_WAL}"), f"{LOCATION}/{_SQLITE}"
    if wal is None or (wal.blob is not None and not wal.blob.size):
        editor.remove(f"{LOCATION}/{_WAL}")
        entry = tree.get(path)
        data = store.read(entry.blob) if entry is not None and entry.blob is not None else b""
        if data[_JOURNAL_MODE] == b"\2\2":
            rewrite(editor, path, data[:18] + b"\1\1" + data[20:], store, writer=WRITER)
    return editor.build()


def copy_base(tree: Tree) -> Tree:
    """Make the second copy, with which clients compare after layering packages."""
    editor = tree.edit()
    editor.remove(BASE_COPY)
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
