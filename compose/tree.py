"""The composed operating system as a value: paths, types, modes, owners, xattrs, and digests of contents.

A `Tree` is immutable; `edit()` returns a `TreeEditor`, whose `build()` returns the next `Tree`. Paths are relative, such as
"usr/bin/bash"; the root is "". Each directory has an entry, including the root; each parent of an entry is a directory.
As in OSTree, there are only regular files, directories and symlinks.
"""

from __future__ import annotations

import dataclasses
import stat
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from compose.errors import TreeError
from compose.values import value

ROOT_WRITER = "step:root"


@value
class BlobRef:
    """An inode in the blob store. Workroots may hard-link it, so its mode and mtime matter too.

    digest: sha256 of the content, 64 hex digits. size: bytes. mode: permission bits of the inode: 0o644, 0o755 or 0o600. mtime:
    of the inode, seconds since 1970.
    """

    digest: str
    size: int
    mode: int
    mtime: int


@value
class Entry:
    """What a tree has at one path.

    mode: st_mode, including the type bits. xattrs: (name, value) sorted by name, names without the final NUL, values as in the
    kernel. blob: of a regular file. target: of a symlink. A directory has neither. mtime: seconds since 1970; for programs in
    the workroot, not committed. link: name of a hard-link group, "" for none. writer: what created the entry: "package:NEVRA",
    "scriptlet:NEVRA:%post", "step:NAME", "program:NAME".
    """

    mode: int
    uid: int = 0
    gid: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    blob: BlobRef | None = None
    target: str | None = None
    mtime: int = 0
    link: str = ""
    writer: str = ""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def permissions(self) -> int:
        """Mode without the type bits, 0..0o7777."""
        return stat.S_IMODE(self.mode)

    def with_xattr(self, name: bytes, value: bytes | None) -> Entry:
        """Return the entry with one xattr set, or removed if value is None."""
        rest = [pair for pair in self.xattrs if pair[0] != name]
        if value is not None:
            rest.append((name, value))
        return self.with_xattrs(tuple(sorted(rest)))

    def with_xattrs(self, xattrs: tuple[tuple[bytes, bytes], ...]) -> Entry:
        """Return the entry with other xattrs. All entries are labelled, and dataclasses.replace() takes three times as long."""
        return Entry(
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
            xattrs=xattrs,
            blob=self.blob,
            target=self.target,
            mtime=self.mtime,
            link=self.link,
            writer=self.writer,
        )


def parent_of(path: str) -> str:
    """Return the parent of a path; that of "usr" is ""."""
    return path.rpartition("/")[0]


def name_of(path: str) -> str:
    """Return the last component of a path."""
    return path.rpartition("/")[2]


def join(parent: str, name: str) -> str:
    """Return the path of a name in the directory parent."""
    return f"{parent}/{name}" if parent else name


def is_utf8(text: str) -> bool:
    """Is a name or a symlink target UTF-8, as commits require? Other bytes are surrogates here, as os.fsdecode() makes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _order(path: str) -> str:
    """Sort key: parents before their content, siblings by code point. No name has a NUL, the lowest character."""
    return path.replace("/", "\0")


class TreeLookupError(Exception):
    """A path cannot be resolved because of a loop of symlinks, or a file in place of a directory."""


class Tree:
    """Immutable map of paths to entries. The index of children is created on first use."""

    __slots__ = ("_children", "_entries", "_paths")

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        """entries: with the root and all parents. Raises ValueError without the root."""
        if "" not in entries:
            raise ValueError("a tree needs a root entry")
        self._entries = dict(entries)
        self._children: dict[str, list[str]] | None = None
        self._paths: list[str] | None = None

    @classmethod
    def empty(cls) -> Tree:
        """Return a tree of just a root directory, 0755 root:root."""
        return cls({"": Entry(mode=stat.S_IFDIR | 0o755, writer=ROOT_WRITER)})

    @property
    def entries(self) -> Mapping[str, Entry]:
        return MappingProxyType(self._entries)

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def __contains__(self, path: object) -> bool:
        return path in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self._entries == other._entries

    def __hash__(self) -> int:
        raise TypeError("a Tree is not hashable; hash its commit")

    def get(self, path: str) -> Entry | None:
        return self._entries.get(path)

    def is_dir(self, path: str) -> bool:
        entry = self._entries.get(path)
        return entry is not None and entry.is_dir

    def children(self, path: str) -> list[str]:
        """Return the names in a directory, sorted by code point; empty if it is not a directory."""
        return self._index().get(path, [])

    def _index(self) -> dict[str, list[str]]:
        if self._children is None:
            index: dict[str, list[str]] = {}
            for each in self._ordered():
                if each:
                    index.setdefault(parent_of(each), []).append(name_of(each))
            self._children = index
        return self._children

    def walk(self, top: str = "") -> Iterator[tuple[str, Entry]]:
        """Yield (path, entry) of top and everything below it, parents first, siblings sorted; nothing if top does not exist."""
        paths = self._ordered()
        if not top:
            return zip(paths, map(self._entries.__getitem__, paths), strict=True)
        return self._walk(top, paths) if top in self._entries else iter(())

    def _walk(self, top: str, paths: list[str]) -> Iterator[tuple[str, Entry]]:
        first = bisect_left(paths, _order(top), key=_order)
        for index in range(first, len(paths)):
            path = paths[index]
            if index > first and not path.startswith(f"{top}/"):
                return
            yield path, self._entries[path]

    def _ordered(self) -> list[str]:
        if self._paths is None:
            self._paths = sorted(self._entries, key=_order)
        return self._paths

    def resolve(self, path: str, *, follow_last: bool = True) -> str:
        """Follow all symlinks in a path as if the tree's root were "/". follow_last: also if the last component is one.

        Missing components are kept as they are. Raises TreeLookupError on a loop, and for a file in place of a directory.
        """
        return _resolve(self._entries, path, follow_last=follow_last)

    def with_entries(self, entries: Mapping[str, Entry]) -> Tree:
        """Return a tree with other entries for the same paths, which shares the indexes."""
        tree = Tree(entries)
        tree._children, tree._paths = self._children, self._paths
        return tree

    def edit(self) -> TreeEditor:
        """Return a mutable copy."""
        return TreeEditor(self)


def _obstacle(path: str, entry: Entry, why: str) -> TreeError:
    return TreeError(f"/{path} {why}", hint=f"/{path} is from {entry.writer}" if entry.writer else None)


def _resolve(entries: Mapping[str, Entry], path: str, *, follow_last: bool) -> str:
    done: list[str] = []
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    hops = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        done.append(part)
        here = "/".join(done)
        entry = entries.get(here)
        if entry is None:
            continue
        if entry.is_symlink and (todo or follow_last):
            hops += 1
            if hops > 40:
                raise TreeLookupError(f"/{path}: too many levels of symlinks")
            assert entry.target is not None
            done = [] if entry.target.startswith("/") else done[:-1]
            todo.extend(piece for piece in reversed(entry.target.split("/")) if piece not in ("", "."))
        elif entry.is_file and todo:
            raise TreeLookupError(f"/{path}: /{here} is a file, not a directory")
    return "/".join(done)


class TreeEditor:
    """A tree being changed. Symlinks in paths are not followed."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._entries = dict(tree._entries)
        # content of those directories whose content changed
        self._names: dict[str, set[str]] = {}

    def __contains__(self, path: object) -> bool:
        return path in self._entries

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def get(self, path: str) -> Entry | None:
        return self._entries.get(path)

    def resolve(self, path: str, *, follow_last: bool = True) -> str:
        """As Tree.resolve()."""
        return _resolve(self._entries, path, follow_last=follow_last)

    def children(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        changed = self._names.get(path)
        return list(self._tree.children(path)) if changed is None else sorted(changed)

    def links(self) -> set[str]:
        """Return the names of all hard-link groups."""
        return {entry.link for entry in self._entries.values() if entry.link}

    def subtree(self, top: str) -> list[str]:
        """Return top and all paths below it, parents first; empty if top does not exist."""
        if top not in self._entries:
            return []
        found = [top]
        for path in found:
            found.extend(join(path, name) for name in self.children(path))
        return found

    def put(self, path: str, entry: Entry) -> None:
        """Set an entry. Missing parents are created, 0755 root:root, with the same writer.

        Raises TreeError if a parent is not a directory, or if it would replace a directory with content: remove() that first.
        """
        before = self._entries.get(path)
        if path:
            parent, _, name = path.rpartition("/")
            above = self._entries.get(parent)
            if above is None:
                self._add_parents(parent, Entry(mode=stat.S_IFDIR | 0o755, mtime=entry.mtime, writer=entry.writer))
            elif not above.is_dir:
                raise _obstacle(parent, above, f"is not a directory and cannot hold /{path}")
            if before is None:
                self._names_in(parent).add(name)
        if before is not None and before.is_dir and not entry.is_dir and self.children(path):
            raise _obstacle(path, before, "is a directory with content and cannot become something else")
        self._entries[path] = entry

    def replace(self, path: str, **changes: Any) -> None:
        """Change fields of an existing entry. Raises KeyError."""
        self._entries[path] = dataclasses.replace(self._entries[path], **changes)

    def add_dir(self, path: str, permissions: int = 0o755, *, writer: str, uid: int = 0, gid: int = 0) -> None:
        """Create a directory; an existing one is not changed. Raises as put()."""
        present = self._entries.get(path)
        if present is None or not present.is_dir:
            self.put(path, Entry(mode=stat.S_IFDIR | permissions, uid=uid, gid=gid, writer=writer))

    def add_symlink(self, path: str, target: str, *, writer: str) -> None:
        """Create a symlink, replacing a file or symlink. Raises as put()."""
        self.put(path, Entry(mode=stat.S_IFLNK | 0o777, target=target, writer=writer))

    def add_file(
        self, path: str, blob: BlobRef, permissions: int = 0o644, *, writer: str, uid: int = 0, gid: int = 0
    ) -> None:
        """Create a regular file with the blob's mtime, replacing a file or symlink. Raises as put()."""
        self.put(
            path,
            Entry(mode=stat.S_IFREG | permissions, uid=uid, gid=gid, blob=blob, mtime=blob.mtime, writer=writer),
        )

    def remove(self, path: str) -> bool:
        """Remove a path and everything below it; False if it does not exist."""
        gone = self.subtree(path)
        for each in gone:
            if self._entries.pop(each).is_dir:
                self._names[each] = set()
        if gone and path:
            self._names_in(parent_of(path)).discard(name_of(path))
        return bool(gone)

    def move(self, source: str, target: str) -> None:
        """Move a path with everything below it. Raises KeyError if source does not exist, ValueError if target does."""
        if source not in self._entries:
            raise KeyError(source)
        if target in self._entries:
            raise ValueError(f"/{target} exists")
        moved = [(path, self._entries[path]) for path in self.subtree(source)]
        self.remove(source)
        for path, entry in moved:
            self.put(target + path[len(source) :], entry)

    def build(self) -> Tree:
        """Return the tree in its current state. The editor can still be used."""
        if not self._names:
            return self._tree.with_entries(self._entries)
        index = dict(self._tree._index())
        for path, names in self._names.items():
            index[path] = sorted(names)
        tree = Tree(self._entries)
        tree._children = index
        return tree

    def _add_parents(self, path: str, entry: Entry) -> None:
        """Set an entry for a path and its missing parents, without recursion: paths may have 2,000 components."""
        missing = []
        while path not in self._entries:
            missing.append(path)
            path = parent_of(path)
        for each in reversed(missing):
            self.put(each, entry)

    def _names_in(self, path: str) -> set[str]:
        """The set of names in a directory, to be modified."""
        names = self._names.get(path)
        if names is None:
            names = self._names[path] = set(self._tree.children(path))
        return names
