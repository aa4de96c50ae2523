"""/etc, which is /usr/etc in a commit: the defaults that clients merge with the machine's configuration."""

from __future__ import annotations

import stat

from compose.errors import PostprocessError
from compose.postprocess.contents import resolve
from compose.tree import Entry, Tree

WRITER = "step:etc"
_ETC, _DEFAULTS = "etc", "usr/etc"


def adopt(tree: Tree) -> Tree:
    """Move what packages ship in /usr/etc, or their scriptlets write there, to /etc, as both become one directory.

    Of a file and a link to it, which will be in one place, the file stays. Whatever else is in /usr/etc is left for move() to
    refuse. Raises PostprocessError if two files differ.
    """
    shipped = [(path, entry) for path, entry in tree.walk(_DEFAULTS) if path != _DEFAULTS]
    if _DEFAULTS not in tree or not all(_is_packaged(tree, path, entry) for path, entry in shipped):
        return tree
    editor = tree.edit()
    for path, entry in shipped:
        place = path.removeprefix("usr/")
        present, is_one = editor.get(place), _are_one(tree, path)
        if is_one and entry.is_symlink:
            continue
        if present is None or is_one:
            editor.put(place, entry)
        elif not _same(entry, present):
            first, second = (each.writer.partition(":")[2] for each in (entry, present))
            raise PostprocessError(
                f"/{path} of {first} and /{place} of {second} differ, but become one file",
                hint="leave one of the packages out with exclude-packages",
            )
    editor.remove(_DEFAULTS)
    return editor.build()


def _is_packaged(tree: Tree, path: str, entry: Entry) -> bool:
    """Is an entry in /usr/etc a package's? In a root that other tools made, only directories and links to /etc can be."""
    return (
        entry.writer.startswith(("package:", "scriptlet:"))
        or entry.is_dir
        or (entry.is_symlink and _are_one(tree, path))
    )


def _are_one(tree: Tree, path: str) -> bool:
    """Does a path in /usr/etc lead to the same file as that in /etc?"""
    return resolve(tree, path) == resolve(tree, path.removeprefix("usr/"))


def _same(one: Entry, other: Entry) -> bool:
    if one.blob is not None and other.blob is not None:
        return one.blob.digest == other.blob.digest
    return (one.is_dir and other.is_dir) or (one.is_symlink and one.target == other.target)


def restore(tree: Tree) -> Tree:
    """Undo move(), so that programs can run; a tree with content in /etc stays as it is."""
    if _DEFAULTS not in tree or tree.children(_ETC):
        return tree
    editor = tree.edit()
    editor.remove(_ETC)
    editor.move(_DEFAULTS, _ETC)
    return editor.build()


def move(tree: Tree) -> Tree:
    """Move /etc to /usr/etc. Raises PostprocessError if /usr/etc has content already."""
    editor = tree.edit()
    if editor.children(_DEFAULTS):
        raise PostprocessError(
            f"Tree contains both /etc and /usr/etc ({', '.join(editor.children(_DEFAULTS)[:5])})",
            hint="scripts must put configuration into /etc only; the compose moves it",
        )
    editor.remove(_DEFAULTS)
    if _ETC not in editor:
        editor.add_dir(_ETC, writer=WRITER)
    editor.replace(_ETC, mode=stat.S_IFDIR | 0o755, writer=WRITER)
    editor.move(_ETC, _DEFAULTS)
    return editor.build()
