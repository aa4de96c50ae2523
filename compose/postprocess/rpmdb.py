"""The rpm database: part of the image, so below /usr, where clients of every age look for it."""

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
_LEFTOVER = re.compile(r"\.(rpm|keyring|dbenv)\.lock|__db\..*|rpmdb\.sqlite-shm")
_SQLITE, _LOG = "rpmdb.sqlite", "rpmdb.sqlite-wal"
# "File format write version", then "read version": 1 for a rollback journal, 2 for a log (sqlite.org/fileformat2.html, 1.3)
_JOURNAL_KIND = slice(18, 20)


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


def close(tree: Tree, store: Contents) -> Tree:
    """The database as it is when no program has ever opened it for writing: one file, which can be read where /usr cannot be
    written to. rpm leaves an empty log and says in the database that there is one. A log that is not empty holds packages and
    stays.
    """
    editor = tree.edit()
    _remove_leftovers(editor, LOCATION)
    log, path = tree.get(f"{LOCATION}/{_LOG}"), f"{LOCATION}/{_SQLITE}"
    if log is None or (log.blob is not None and not log.blob.size):
        editor.remove(f"{LOCATION}/{_LOG}")
        entry = tree.get(path)
        data = store.read(entry.blob) if entry is not None and entry.blob is not None else b""
        if data[_JOURNAL_KIND] == b"\2\2":
            rewrite(editor, path, data[:18] + b"\1\1" + data[20:], store, writer=WRITER)
    return editor.build()


def copy_base(tree: Tree) -> Tree:
    """The second copy, which clients compare with after they have layered packages."""
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
