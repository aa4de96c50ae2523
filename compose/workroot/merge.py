"""Applies changes to a tree, and computes the update from one tree to another. Pure: no I/O."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter

from compose.errors import ScriptError
from compose.tree import Entry, Tree, TreeEditor, is_utf8, parent_of
from compose.workroot.layer import Change
from compose.workroot.materialise import OVERLAY, as_materialised, is_plain, kept_xattrs

# a signature of the content: dropped when that changes
_IMA = b"security.ima"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """The steps that make a live root show another tree.

    removed: paths to remove with everything below. made: paths to create, parents first. adjusted: paths to give the entry's
    owner, then mode, then capabilities, unless their type has changed.
    """

    removed: tuple[str, ...]
    made: tuple[tuple[str, Entry], ...]
    adjusted: tuple[tuple[str, Entry], ...]


def update(before: Tree, after: Tree, *, applied: bool) -> Update:
    """The update from one tree to another. applied: `before` is shown in full, otherwise as materialise() wrote it."""
    removed = [path for path in before.entries if path not in after and parent_of(path) in after]
    made = []
    adjusted = []
    for path, entry in after.entries.items():
        old = before.get(path)
        if old is None:
            made.append((path, entry))
            continue
        # the common case
        if old is entry and (applied or is_plain(old)):
            continue
        shown = old if applied else as_materialised(old)
        if shown is entry:
            continue
        if not _same_content(old, entry):
            removed.append(path)
            made.append((path, entry))
        elif _metadata(shown) != _metadata(entry):
            adjusted.append((path, entry))
    by_path = itemgetter(0)
    return Update(
        removed=tuple(sorted(removed)),
        made=tuple(sorted(made, key=by_path)),
        adjusted=tuple(sorted(adjusted, key=by_path)),
    )


def with_links(change: Update) -> Update:
    """The update with hard-linked files made again instead of adjusted, which keeps them linked.

    On adjustment an overlay copies up each name of a file by itself. Programs must not have changed these files yet.
    """
    linked = tuple(row for row in change.adjusted if row[1].link)
    if not linked:
        return change
    return Update(
        removed=(*change.removed, *(path for path, _ in linked)),
        made=tuple(sorted((*change.made, *linked), key=itemgetter(0))),
        adjusted=tuple(row for row in change.adjusted if not row[1].link),
    )


def apply_changes(editor: TreeEditor, changes: Iterable[Change], *, writer: str, applied: bool) -> None:
    """Apply a program's changes, parents first, to the tree it was shown.

    A file written with equal content and metadata is unchanged. applied: the tree was shown in full, otherwise as
    materialise() wrote it; then metadata that still looks like that stays the tree's. Raises ScriptError for a name or symlink
    target that is not UTF-8, which OSTree cannot hold.
    """
    links: set[str] | None = None
    groups: dict[int, str] = {}
    for change in changes:
        path = change.path
        if not is_utf8(path):
            raise _not_utf8(f"{os.fsencode(path)!r} was made by {writer}: the name")
        if change.entry is None:
            editor.remove(path)
            continue
        if (target := change.entry.target) is not None and not is_utf8(target):
            raise _not_utf8(f"/{path} was made by {writer} with the target {os.fsencode(target)!r}, which")
        entry = replace(change.entry, writer=writer)
        if change.inode:
            if links is None:
                links = editor.links()
            entry = replace(entry, link=groups.setdefault(change.inode, _new_link(path, links)))
        _put(editor, path, entry, change.opaque, applied)


def lost(changes: Iterable[Change], writer: str) -> Iterator[str]:
    """A warning for each file or xattr that a tree cannot hold."""
    for change in changes:
        if change.lost:
            yield f"/{change.path}: {change.lost} made by {writer} dropped, a commit cannot hold it"


def _put(editor: TreeEditor, path: str, entry: Entry, opaque: bool, applied: bool) -> None:
    below = editor.get(path)
    if below is not None and (opaque or below.is_dir != entry.is_dir):
        editor.remove(path)
    if below is None or (below.is_dir, below.is_symlink) != (entry.is_dir, entry.is_symlink):
        editor.put(path, entry)
        return
    if _metadata(below if applied else as_materialised(below)) == _metadata(entry):
        if _same_content(below, entry):
            # a script may have made a hard link to it
            editor.put(path, replace(below, link=entry.link) if entry.link and not below.link else below)
            return
        entry = replace(
            entry, mode=below.mode, uid=below.uid, gid=below.gid, xattrs=below.with_xattr(_IMA, None).xattrs
        )
    else:
        # a live root does not show these xattrs, and they are still valid
        for name, value in below.xattrs:
            if name.startswith(OVERLAY) or (name == _IMA and _same_content(below, entry)):
                entry = entry.with_xattr(name, value)
    editor.put(path, entry)


def adjusted(present: Entry, entry: Entry) -> Entry:
    """The content a program left at a path, with the metadata of `entry`."""
    kept = entry if _same_content(present, entry) else entry.with_xattr(_IMA, None)
    return replace(present, mode=entry.mode, uid=entry.uid, gid=entry.gid, xattrs=kept.xattrs)


def _metadata(entry: Entry) -> tuple[object, ...]:
    return entry.mode, entry.uid, entry.gid, kept_xattrs(entry)


def _same_content(one: Entry, other: Entry) -> bool:
    """Are type, bytes and symlink target equal, whatever the metadata?"""
    if (one.is_dir, one.target) != (other.is_dir, other.target):
        return False
    if one.blob is None or other.blob is None:
        return one.blob is other.blob
    return one.blob.digest == other.blob.digest


def _new_link(path: str, taken: set[str]) -> str:
    """A name for a new hard-link group, different from those taken."""
    name = f"workroot:{path}"
    while name in taken:
        name += "+"
    return name


def _not_utf8(what: str) -> ScriptError:
    return ScriptError(
        f"{what} is not UTF-8, as commits require",
        hint="fix the script; a package can be left out with exclude-packages",
    )
