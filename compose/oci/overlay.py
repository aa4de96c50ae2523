"""Applies layers on top of each other to make a tree (image-spec, layer.md), without unpacking them into a directory.

    .wh.NAME        hides NAME of the layers below
    .wh..wh..opq    hides everything that the layers below have in its directory

Both hide only files of lower layers, wherever in their own layer they stand. Other names beginning with .wh..wh. are internal
to aufs and skipped. Symlinks are never followed: an entry below one is refused, as unpackers disagree about it (those that
extract into one root follow the link, those with a directory per layer hide it), so that the image has no definite tree.
"""

from __future__ import annotations

import dataclasses
import stat
from dataclasses import dataclass

from compose.blobs import BlobStore
from compose.errors import ImageError
from compose.oci.untar import Kind, TarEntry, TarReader
from compose.rootfs import Root, is_kept, place_whiteouts, whiteout_file
from compose.tree import Entry, Tree, join, name_of, parent_of

_WHITEOUT, _OPAQUE, _AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."
_MAX_NAME, _MAX_PATH, _MAX_XATTR = 255, 4095, 1 << 16
"""Bytes; Linux's limits."""
_MAX_MEMORY = 2 << 30
"""Bytes of memory that all entries with their names and xattrs may take; those of a system take 100 MB."""
_ENTRY_MEMORY = 512
"""Bytes of memory per entry, without its names and xattrs."""

_HERE = Entry(mode=stat.S_IFIFO)
"""In the tree under construction: a file of a type that trees cannot hold is at this path."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A file of a type that trees cannot hold. kind: "a device". file: the entry that represents it, if any."""

    kind: str
    file: Entry | None = None


class Overlay:
    """A tree under construction. store: for file contents. writer: recorded in all entries."""

    def __init__(self, store: BlobStore, writer: str) -> None:
        self._store = store
        self._writer = writer
        self._editor = Tree.empty().edit()
        self._editor.replace("", writer=writer)
        # by path: those at which the editor has _HERE, and former ones
        self._nodes: dict[str, _Node] = {}
        self._memory = 0
        self._links = 0
        # of the layer being applied: its paths with their parents, and the directories that it makes opaque
        self._where = ""
        self._fresh: set[str] = set()
        self._opaque: set[str] = set()

    def apply(self, reader: TarReader, where: str) -> None:
        """Apply a layer on top of those applied so far. where: for messages. Raises ImageError when the layer is damaged, or
        has an entry outside of the root; StorageError."""
        self._where = where
        self._fresh = set()
        self._opaque = set()
        for entry in reader:
            self._memory += _ENTRY_MEMORY + len(entry.name) + len(entry.link) + sum(map(_length, entry.xattrs))
            if self._memory > _MAX_MEMORY:
                raise self._refused(f"names and attributes of the files take more than {_MAX_MEMORY >> 20} MiB")
            path = self._path(entry.name)
            name = name_of(path)
            if f"/{_AUFS}" in f"/{path}" and name != _OPAQUE:
                continue
            if f"/{_WHITEOUT}" in f"/{parent_of(path)}":
                raise self._refused(f"/{path} is below a whiteout")
            if name == _OPAQUE:
                self._hide_content(parent_of(path))
            elif name.startswith(_WHITEOUT):
                self._hide(parent_of(path), name[len(_WHITEOUT) :])
            else:
                self._put(path, entry, reader)

    def get(self, path: str) -> Entry | None:
        """The entry at a path so far; None if there is no file, directory or symlink."""
        entry = self._editor.get(path)
        return None if entry is _HERE else entry

    def finish(self, *, without: tuple[str, ...] = ()) -> Root:
        """The complete tree. without: directories left empty, whatever the layers have in them. Raises ImageError when a file
        cannot be committed."""
        for top in without:
            for name in self._editor.children(top):
                self._editor.remove(join(top, name))
        entries = dict(self._editor.build().entries)
        nodes = {path: self._nodes[path] for path, entry in entries.items() if entry is _HERE}
        for path in nodes:
            del entries[path]
        faults = [
            f"/{path} is {node.kind}, which cannot be committed"
            for path, node in nodes.items()
            if node.kind == "a fifo"
        ]
        whiteouts = {path: node.file for path, node in nodes.items() if node.file is not None}
        faults += place_whiteouts(entries, whiteouts)
        if faults:
            raise ImageError.of(
                faults, f"{len(faults)} files of the image cannot be committed", hint="remove them from the image"
            )
        return Root(
            tree=Tree(entries),
            devices=tuple(sorted(path for path, node in nodes.items() if node.file is None)),
            whiteouts=tuple(sorted(whiteouts)),
        )

    def _path(self, name: str) -> str:
        """A name from the stream as a path in the tree."""
        if name.startswith("/"):
            raise self._refused(f"{name} is an absolute path")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refused(f"{name} leads out of its directory")
        if "\0" in name or any(len(part.encode()) > _MAX_NAME for part in parts):
            raise self._refused(f"{name[:80]!r}… is not a possible file name")
        path = "/".join(parts)
        if len(path.encode()) > _MAX_PATH:
            raise self._refused(f"/{path[:80]}… is too long for a path")
        return path

    def _put(self, path: str, entry: TarEntry, reader: TarReader) -> None:
        if not path and entry.kind is not Kind.DIRECTORY:
            raise self._refused("the root is not a directory")
        made = self._convert(path, entry, reader)
        self._make_parents(path, entry.mtime)
        present = self._editor.get(path)
        both_directories = present is not None and present.is_dir and isinstance(made, Entry) and made.is_dir
        if not both_directories:
            self._editor.remove(path)
        if isinstance(made, _Node):
            self._nodes[path], made = made, _HERE
        self._editor.put(path, made)
        self._fresh.add(path)
        # whiteouts of this layer must not remove directories that it puts something into
        while path and (path := parent_of(path)) not in self._fresh:
            self._fresh.add(path)

    def _convert(self, path: str, entry: TarEntry, reader: TarReader) -> Entry | _Node:
        match entry.kind:
            case Kind.LINK:
                return self._linked(path, entry)
            case Kind.SYMLINK:
                if not entry.link or "\0" in entry.link or len(entry.link.encode()) > _MAX_PATH:
                    raise self._refused(f"/{path} is a symlink with an impossible target")
                return self._entry(entry, stat.S_IFLNK | 0o777, target=entry.link)
            case Kind.DIRECTORY:
                return self._entry(entry, stat.S_IFDIR | entry.mode)
            case Kind.FILE:
                return self._file(path, entry, reader)
            case Kind.CHARACTER if entry.device == (0, 0):
                # an overlayfs whiteout, part of a layer in container storage that the image contains
                file = whiteout_file(entry.mode, entry.uid, entry.gid, entry.mtime, self._store, self._writer)
                return _Node("a whiteout", file)
            case Kind.FIFO:
                return _Node("a fifo")
            case _:
                return _Node("a device")

    def _file(self, path: str, entry: TarEntry, reader: TarReader) -> Entry:
        if not self._store.has_room(entry.size):
            raise self._refused(
                f"/{path} has {entry.size} bytes, more than there is room for in {self._store.root}",
                hint="free some space, or give a cachedir on another disk",
            )
        with self._store.writer(entry.mode, entry.mtime) as writer:
            for piece in reader.data():
                writer.write(piece)
            blob = writer.commit()
        made = self._entry(entry, stat.S_IFREG | entry.mode)
        return dataclasses.replace(made, blob=blob)

    def _linked(self, path: str, entry: TarEntry) -> Entry | _Node:
        source = self._path(entry.link)
        present = self._editor.get(source)
        if present is None or source == path:
            raise self._refused(f"/{path} is a hard link to /{source}, which does not exist")
        if present is _HERE:
            return self._nodes[source]
        if present.is_dir:
            raise self._refused(f"/{path} is a hard link to the directory /{source}")
        if present.is_file and not present.link:
            # numbered, not named: other links may belong to an earlier file of the same name
            self._links += 1
            present = dataclasses.replace(present, link=f"{self._writer}:{self._links}")
            self._editor.put(source, present)
        return present

    def _entry(self, entry: TarEntry, mode: int, target: str | None = None) -> Entry:
        xattrs = () if target is not None else tuple(pair for pair in entry.xattrs if is_kept(pair[0]))
        for name, value in xattrs:
            if len(name) > _MAX_NAME or len(value) > _MAX_XATTR or b"\0" in name:
                raise self._refused(f"{entry.name} has an impossible extended attribute, {name[:80]!r}")
        return Entry(
            mode=mode,
            uid=entry.uid,
            gid=entry.gid,
            xattrs=xattrs,
            target=target,
            mtime=entry.mtime,
            writer=self._writer,
        )

    def _make_parents(self, path: str, mtime: int) -> None:
        """Create the missing parents of a path; iteratively, as paths may be deeper than recursion can go."""
        missing = []
        parent = parent_of(path)
        while path and (present := self._editor.get(parent)) is None:
            missing.append(parent)
            parent = parent_of(parent)
        if path and present is _HERE:
            raise self._refused(f"/{path} is below /{parent}, which is {self._nodes[parent].kind}")
        if path and present is not None and not present.is_dir:
            kind = f"a symlink to {present.target}" if present.is_symlink else "a file"
            raise self._refused(
                f"/{path} is below /{parent}, which is {kind}",
                hint="unpackers disagree about it: replace the link in the layer, or put the file below the link's target",
            )
        for directory in reversed(missing):
            self._memory += _ENTRY_MEMORY + len(directory)
            self._editor.put(directory, Entry(mode=stat.S_IFDIR | 0o755, mtime=mtime, writer=self._writer))

    def _hide(self, parent: str, name: str) -> None:
        if name in ("", ".", ".."):
            raise self._refused(f"/{parent} has {_WHITEOUT}{name}, which is not a valid whiteout")
        path = join(parent, name)
        self._check_parents(path)
        if path in self._fresh:
            self._hide_content(path)
        else:
            self._editor.remove(path)

    def _hide_content(self, top: str) -> None:
        """Remove everything that the layers below have in a directory."""
        self._check_parents(join(top, _OPAQUE))
        if top in self._opaque:
            return
        self._opaque.add(top)
        pending = [top]
        while pending:
            parent = pending.pop()
            for name in self._editor.children(parent):
                path = join(parent, name)
                if path not in self._fresh:
                    self._editor.remove(path)
                elif self._editor[path].is_dir:
                    pending.append(path)

    def _check_parents(self, path: str) -> None:
        """Raises ImageError when a path to hide is below a symlink, as it is undefined what that hides."""
        while path:
            path = parent_of(path)
            present = self._editor.get(path)
            if present is not None and present.is_symlink:
                raise self._refused(f"a whiteout is below /{path}, which is a symlink to {present.target}")
            if present is not None:
                return

    def _refused(self, reason: str, hint: str | None = None) -> ImageError:
        return ImageError(f"{self._where}: {reason}", hint=hint)


def _length(pair: tuple[bytes, bytes]) -> int:
    return len(pair[0]) + len(pair[1])
