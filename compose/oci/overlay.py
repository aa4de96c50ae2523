"""Layers, one upon another, become a tree (image-spec, layer.md): nothing of them is written to any directory.

    .wh.NAME        hides NAME of the layers below
    .wh..wh..opq    hides all that the layers below have in its directory

Both are about the layers below, wherever in its layer they stand. What else begins with .wh..wh. is aufs's own, and left out.
Links are never followed: what lies below one in the stream is refused, for unpackers differ in where they put it (those
that extract into one root follow the link, those with a directory for each layer hide it), and the image is not one tree.
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
_MOST_NAME, _MOST_PATH, _MOST_XATTR = 255, 4095, 1 << 16
"""Bytes; what Linux takes."""
_MOST_HELD = 2 << 30
_EACH = 512
"""Bytes of memory that names and attributes of all entries may take, and what one takes beside them. A system has 100 MB."""


@dataclass(frozen=True, slots=True)
class _Node:
    """What no tree holds. what: "a device". file: that stands for it, None when nothing does."""

    what: str
    file: Entry | None = None


class Overlay:
    """A tree in the making. store: where contents go. writer: of all entries."""

    def __init__(self, store: BlobStore, writer: str) -> None:
        self._store = store
        self._writer = writer
        self._editor = Tree.empty().edit()
        self._editor.replace("", writer=writer)
        self._nodes: dict[str, _Node] = {}
        self._held = 0
        self._links = 0
        # of the layer that is being applied: what it has, with the directories that this is in, and those that it empties
        self._where = ""
        self._fresh: set[str] = set()
        self._opaque: set[str] = set()

    def apply(self, reader: TarReader, where: str) -> None:
        """Put a layer upon those that are there. where: for messages. Raises ImageError for what is no layer, or would reach
        out of the root; StorageError."""
        self._where = where
        self._fresh = set()
        self._opaque = set()
        for entry in reader:
            self._held += _EACH + len(entry.name) + len(entry.link) + sum(map(_length, entry.xattrs))
            if self._held > _MOST_HELD:
                raise self._refused(f"names and attributes of the files take more than {_MOST_HELD >> 20} MiB")
            path = self._path(entry.name)
            name = name_of(path)
            if f"/{_AUFS}" in f"/{path}" and name != _OPAQUE:
                continue
            if f"/{_WHITEOUT}" in f"/{parent_of(path)}":
                raise self._refused(f"/{path} lies below what hides a file")
            if name == _OPAQUE:
                self._hide_content(parent_of(path))
            elif name.startswith(_WHITEOUT):
                self._hide(parent_of(path), name[len(_WHITEOUT) :])
            else:
                self._put(path, entry, reader)

    def get(self, path: str) -> Entry | None:
        """What is there so far; None for what is no file, directory or symlink."""
        return self._editor.get(path)

    def finish(self, *, without: tuple[str, ...] = ()) -> Root:
        """The whole. without: directories that are empty in it, whatever layers have there. Raises ImageError."""
        for top in without:
            for name in self._editor.children(top):
                self._remove(join(top, name))
            self._nodes = {path: node for path, node in self._nodes.items() if not path.startswith(f"{top}/")}
        faults = [
            f"/{path} is {node.what}, which a commit cannot hold"
            for path, node in self._nodes.items()
            if node.what == "a fifo"
        ]
        entries = dict(self._editor.build().entries)
        whiteouts = {path: node.file for path, node in self._nodes.items() if node.file is not None}
        faults += place_whiteouts(entries, whiteouts)
        if faults:
            raise ImageError(
                faults[0] if len(faults) == 1 else f"{len(faults)} files of the image cannot be committed",
                details=faults if len(faults) > 1 else (),
                hint="remove them from the image",
            )
        return Root(
            tree=Tree(entries),
            devices=tuple(sorted(path for path, node in self._nodes.items() if node.file is None)),
            whiteouts=tuple(sorted(whiteouts)),
        )

    def _path(self, name: str) -> str:
        """As a tree has it."""
        if name.startswith("/"):
            raise self._refused(f"{name} is an absolute path")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refused(f"{name} leads out of its directory")
        if "\0" in name or any(len(part.encode()) > _MOST_NAME for part in parts):
            raise self._refused(f"{name[:80]!r}… is no name that a file can have")
        path = "/".join(parts)
        if len(path.encode()) > _MOST_PATH:
            raise self._refused(f"/{path[:80]}… is longer than a path can be")
        return path

    def _put(self, path: str, entry: TarEntry, reader: TarReader) -> None:
        if not path and entry.kind is not Kind.DIRECTORY:
            raise self._refused("the root is no directory")
        made = self._made(path, entry, reader)
        self._make_parents(path, entry.mtime)
        present = self._editor.get(path)
        both = present is not None and present.is_dir and isinstance(made, Entry) and made.is_dir
        if not both:
            self._remove(path)
        if isinstance(made, _Node):
            self._nodes[path] = made
        else:
            self._editor.put(path, made)
        self._fresh.add(path)
        # a directory of the layers below with something new in it cannot be hidden as a whole any more
        while path and (path := parent_of(path)) not in self._fresh:
            self._fresh.add(path)

    def _made(self, path: str, entry: TarEntry, reader: TarReader) -> Entry | _Node:
        match entry.kind:
            case Kind.LINK:
                return self._linked(path, entry)
            case Kind.SYMLINK:
                if not entry.link or "\0" in entry.link or len(entry.link.encode()) > _MOST_PATH:
                    raise self._refused(f"/{path} is a link that leads nowhere")
                return self._entry(entry, stat.S_IFLNK | 0o777, target=entry.link)
            case Kind.DIRECTORY:
                return self._entry(entry, stat.S_IFDIR | entry.mode)
            case Kind.FILE:
                return self._file(path, entry, reader)
            case Kind.CHARACTER if entry.device == (0, 0):
                # of a layer that is stored in the image, as a root directory may have it
                file = whiteout_file(entry.mode, entry.uid, entry.gid, entry.mtime, self._store, self._writer)
                return _Node("a whiteout", file)
            case Kind.FIFO:
                return _Node("a fifo")
            case _:
                return _Node("a device")

    def _file(self, path: str, entry: TarEntry, reader: TarReader) -> Entry:
        if not self._store.has_room(entry.size):
            raise self._refused(
                f"/{path} has {entry.size} bytes, for which there is no room in {self._store.root}",
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
        if (node := self._nodes.get(source)) is not None and source != path:
            return node
        present = self._editor.get(source)
        if present is None or source == path:
            raise self._refused(f"/{path} is a hard link to /{source}, which is not there")
        if present.is_dir:
            raise self._refused(f"/{path} is a hard link to the directory /{source}")
        if present.is_file and not present.link:
            # a number: there may have been another file of that name, which others are links to
            self._links += 1
            present = dataclasses.replace(present, link=f"{self._writer}:{self._links}")
            self._editor.put(source, present)
        return present

    def _entry(self, entry: TarEntry, mode: int, target: str | None = None) -> Entry:
        xattrs = () if target is not None else tuple(pair for pair in entry.xattrs if is_kept(pair[0]))
        for name, value in xattrs:
            if len(name) > _MOST_NAME or len(value) > _MOST_XATTR or b"\0" in name:
                raise self._refused(f"{entry.name} has the extended attribute {name[:80]!r}, which no file can have")
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
        """Those that are missing, one after the other: a path may be deeper than calls can be."""
        missing = []
        above = parent_of(path)
        while path and (present := self._editor.get(above)) is None:
            if above in self._nodes:
                raise self._refused(f"/{path} lies below /{above}, which is {self._nodes[above].what}")
            missing.append(above)
            above = parent_of(above)
        if path and present is not None and not present.is_dir:
            what = f"a symlink to {present.target}" if present.is_symlink else "a file"
            raise self._refused(
                f"/{path} lies below /{above}, which is {what}",
                hint="what unpackers make of it differs; have the layer hide it, or name the file by where it is",
            )
        for each in reversed(missing):
            self._held += _EACH + len(each)
            self._editor.put(each, Entry(mode=stat.S_IFDIR | 0o755, mtime=mtime, writer=self._writer))

    def _hide(self, parent: str, name: str) -> None:
        if name in ("", ".", ".."):
            raise self._refused(f"/{parent} has {_WHITEOUT}{name}, which hides no file")
        path = join(parent, name)
        self._make_sure(path)
        if path in self._fresh:
            self._hide_content(path)
        else:
            self._remove(path)

    def _hide_content(self, top: str) -> None:
        """What the layers below have in a directory."""
        self._make_sure(join(top, _OPAQUE))
        if top in self._opaque:
            return
        self._opaque.add(top)
        pending = [top]
        while pending:
            above = pending.pop()
            for name in self._editor.children(above):
                path = join(above, name)
                if path not in self._fresh:
                    self._remove(path)
                elif self._editor[path].is_dir:
                    pending.append(path)
        stale = [path for path in self._nodes if path not in self._fresh and (not top or path.startswith(f"{top}/"))]
        for path in stale:
            del self._nodes[path]

    def _make_sure(self, path: str) -> None:
        """Raises ImageError where what hides something lies below a link: nobody knows what it hides."""
        while path:
            path = parent_of(path)
            present = self._editor.get(path)
            if present is not None and present.is_symlink:
                raise self._refused(f"something below /{path} is hidden, which is a symlink to {present.target}")
            if present is not None:
                return

    def _remove(self, path: str) -> None:
        self._nodes.pop(path, None)
        present = self._editor.get(path)
        if present is not None and present.is_dir:
            for each in [each for each in self._nodes if each.startswith(f"{path}/")]:
                del self._nodes[each]
        self._editor.remove(path)

    def _refused(self, how: str, hint: str | None = None) -> ImageError:
        return ImageError(f"{self._where}: {how}", hint=hint)


def _length(pair: tuple[bytes, bytes]) -> int:
    return len(pair[0]) + len(pair[1])
