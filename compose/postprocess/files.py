"""Files that the treefile adds and removes, and the record of the treefile itself."""

from __future__ import annotations

from compose.errors import PostprocessError
from compose.postprocess.contents import Contents, resolve, write_file
from compose.postprocess.options import AddedFile
from compose.tree import Tree

WRITER = "step:add-files"
TREEFILE = "usr/share/rpm-ostree/treefile.json"
_PLACES = ("usr", "etc", "bin", "sbin", "lib", "lib64")


def record_treefile(tree: Tree, store: Contents, data: bytes) -> Tree:
    """Record the flattened treefile in the tree, for clients and later composes."""
    editor = tree.edit()
    write_file(editor, TREEFILE, data, store, writer="step:treefile")
    return editor.build()


def remove(tree: Tree, paths: tuple[str, ...]) -> Tree:
    """Remove paths with everything below; "usr/etc/x" means etc/x, and absent paths are ignored.

    Raises PostprocessError for an empty path or one with "..".
    """
    editor = tree.edit()
    for path in paths:
        editor.remove(resolve(tree, _inside(path, "remove-files"), follow_last=False))
    return editor.build()


def add(tree: Tree, store: Contents, files: tuple[AddedFile, ...]) -> Tree:
    """Add files, replacing existing ones; missing parents are created with mode 0755.

    Raises PostprocessError for a destination that is not part of the image, or is a directory.
    """
    editor = tree.edit()
    for file in files:
        path = _inside(file.dest, "add-files")
        if path.split("/")[0] not in _PLACES or "/" not in path or path.startswith("usr/local/"):
            raise PostprocessError(
                f"Unsupported path in add-files: {file.dest}",
                hint="files can be added below usr/ (except usr/local/), etc/, bin/, sbin/, lib/ and lib64/",
            )
        # follow symlinks in the directory part (/bin); the file itself replaces a symlink
        path = resolve(editor, path, follow_last=False)
        if path in editor and editor[path].is_dir:
            raise PostprocessError(f"add-files: {file.dest} is a directory in the tree")
        write_file(editor, path, file.content, store, writer=WRITER, permissions=file.mode & 0o7777)
    return editor.build()


def _inside(path: str, key: str) -> str:
    """The path relative to the root, with usr/etc as etc. Raises PostprocessError for an empty path or one with ".."."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise PostprocessError(f"Unsupported path in {key}: {path}")
    if parts[:2] == ["usr", "etc"]:
        parts = parts[1:]
    return "/".join(parts)
