"""Reads and writes small files of a tree whose contents are in a blob store."""

from __future__ import annotations

import stat
from typing import Protocol

from compose.errors import PostprocessError
from compose.tree import BlobRef, Entry, Tree, TreeEditor, TreeLookupError

_LARGEST = 64 << 20
"""Bytes of a file that is read as text; those of a system have a few MB at most."""


class Contents(Protocol):
    """The part of `compose.blobs.BlobStore` that postprocessing steps need."""

    def read(self, ref: BlobRef) -> bytes: ...

    def add_bytes(self, data: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef: ...

    def append(self, ref: BlobRef, more: bytes) -> BlobRef: ...


def resolve(tree: Tree | TreeEditor, path: str, *, follow_last: bool = True) -> str:
    """Tree.resolve(), but raises PostprocessError on failure."""
    try:
        return tree.resolve(path, follow_last=follow_last)
    except TreeLookupError as error:
        raise PostprocessError(f"cannot resolve a path in the tree: {error}") from error


def read_text(tree: Tree, path: str, store: Contents) -> str | None:
    """Text of a regular file, symlinks followed inside the tree; None if there is none.

    Bytes that are not UTF-8 survive a round trip through encode(). Raises PostprocessError for a file too large to be one of
    those that the steps read.
    """
    entry = tree.get(resolve(tree, path))
    if entry is None or entry.blob is None:
        return None
    if entry.blob.size > _LARGEST:
        raise PostprocessError(
            f"/{path} has {entry.blob.size} bytes; at most {_LARGEST} are read", hint=f"it is from {entry.writer}"
        )
    return store.read(entry.blob).decode("utf-8", "surrogateescape")


def lines_of(text: str) -> list[str]:
    """Lines without their newlines. Unlike str.splitlines(), this does not split at characters such as U+0085."""
    return text.removesuffix("\n").split("\n") if text else []


def unlines(lines: list[str]) -> bytes:
    """The content of a file with these lines."""
    return encode("".join(f"{line}\n" for line in lines))


def encode(text: str) -> bytes:
    """The inverse of read_text()'s decoding."""
    return text.encode("utf-8", "surrogateescape")


def write_file(
    editor: TreeEditor, path: str, data: bytes, store: Contents, *, writer: str, permissions: int = 0o644
) -> None:
    """Create a root-owned regular file, replacing a file or symlink."""
    editor.add_file(path, store.add_bytes(data, permissions), permissions, writer=writer)


def rewrite(editor: TreeEditor, path: str, data: bytes, store: Contents, *, writer: str) -> bool:
    """Replace the content of a regular file, keeping mode, owner and mtime; False if it is the same already."""
    entry = editor[path]
    assert entry.blob is not None
    blob = store.add_bytes(data, entry.permissions, entry.mtime)
    if blob.digest == entry.blob.digest:
        return False
    # all names in a hard-link group share their content, so this one leaves the group
    editor.replace(path, blob=blob, link="", writer=writer)
    return True


def directory(permissions: int = 0o755, *, writer: str) -> Entry:
    """An entry for a root-owned directory."""
    return Entry(mode=stat.S_IFDIR | permissions, writer=writer)


def merge_into(editor: TreeEditor, source: str, target: str, *, writer: str) -> tuple[str, ...]:
    """Move everything below directory `source` to `target`, merging directories, and remove `source`.

    In a conflict the file at the target stays; the source paths lost this way are returned. What moves keeps its writer, since
    content and attributes are unchanged; `writer` is for a target directory that does not exist yet.
    """
    lost: list[str] = []
    editor.add_dir(target, editor[source].permissions, writer=writer)
    for name in editor.children(source):
        old, new = f"{source}/{name}", f"{target}/{name}"
        present = editor.get(new)
        if present is None:
            editor.move(old, new)
        elif present.is_dir and editor[old].is_dir:
            lost.extend(merge_into(editor, old, new, writer=writer))
        else:
            lost.append(old)
    editor.remove(source)
    return tuple(lost)
