"""Reading and writing small files of a tree whose contents are in a blob store."""

from __future__ import annotations

import stat
from typing import Protocol

from compose.errors import PostprocessError
from compose.tree import BlobRef, Entry, Tree, TreeEditor, TreeLookupError


class Contents(Protocol):
    """What steps need of `compose.blobs.BlobStore`."""

    def read(self, ref: BlobRef) -> bytes: ...

    def add_bytes(self, data: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef: ...

    def append(self, ref: BlobRef, more: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef: ...


def resolve(tree: Tree, path: str, *, follow_last: bool = True) -> str:
    """Tree.resolve(), its failure a PostprocessError."""
    try:
        return tree.resolve(path, follow_last=follow_last)
    except TreeLookupError as error:
        raise PostprocessError(f"the tree cannot be followed: {error}") from error


def read_text(tree: Tree, path: str, store: Contents) -> str | None:
    """Text of a regular file, symlinks followed inside the tree; None when there is none. Bytes that are not UTF-8
    survive a round trip."""
    entry = tree.get(resolve(tree, path))
    if entry is None or entry.blob is None:
        return None
    return store.read(entry.blob).decode("utf-8", "surrogateescape")


def lines_of(text: str) -> list[str]:
    """Lines without their newline. str.splitlines() would also split at what is text in these files (U+0085)."""
    return text.removesuffix("\n").split("\n") if text else []


def unlines(lines: list[str]) -> bytes:
    """The file that has these lines."""
    return encode("".join(f"{line}\n" for line in lines))


def encode(text: str) -> bytes:
    """The bytes that read_text() decoded."""
    return text.encode("utf-8", "surrogateescape")


def write_file(
    editor: TreeEditor, path: str, data: bytes, store: Contents, *, writer: str, permissions: int = 0o644
) -> None:
    """Make a root-owned regular file, replacing a file or symlink."""
    editor.add_file(path, store.add_bytes(data, permissions), permissions, writer=writer)


def rewrite(editor: TreeEditor, path: str, data: bytes, store: Contents, *, writer: str) -> bool:
    """Give an existing regular file other content, keeping mode, owner and mtime; False when it has it already."""
    entry = editor[path]
    assert entry.blob is not None
    blob = store.add_bytes(data, entry.permissions, entry.mtime)
    if blob.digest == entry.blob.digest:
        return False
    # a hard-link group has one content: this name leaves it
    editor.replace(path, blob=blob, link="", writer=writer)
    return True


def directory(permissions: int = 0o755, *, writer: str) -> Entry:
    """An entry of a root-owned directory."""
    return Entry(mode=stat.S_IFDIR | permissions, writer=writer)


def merge_into(editor: TreeEditor, source: str, target: str, *, writer: str) -> tuple[str, ...]:
    """Move everything below directory `source` below `target`, directories joined, and remove `source`.

    What is in the way at the target stays; the source paths that had to give way are returned. What moves keeps its
    writer, for its content and attributes are still that one's; `writer` is that of a target directory not there yet.
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
