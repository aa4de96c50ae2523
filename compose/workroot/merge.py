"""Changes into a tree, and a tree into changes: pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter

from compose.errors import ScriptError
from compose.tree import Entry, Tree, TreeEditor, parent_of
from compose.workroot.layer import Change
from compose.workroot.materialise import OVERLAY, as_materialised, is_plain, kept_xattrs

# a signature of the content, which goes with it
_IMA = b"security.ima"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What makes a live root show another tree.

    removed: paths to remove with all below them. made: paths to make anew, parents first. adjusted: paths to give the
    entry's owner, then mode, then capabilities, should they still hold the same type of thing.
    """

    removed: tuple[str, ...]
    made: tuple[tuple[str, Entry], ...]
    adjusted: tuple[tuple[str, Entry], ...]


def update(before: Tree, after: Tree, *, applied: bool) -> Update:
    """Difference of two trees. applied: before is shown in full; else as materialise() made it."""
    removed = [path for path in before.entries if path not in after and parent_of(path) in after]
    made = []
    adjusted = []
    for path, entry in after.entries.items():
        old = before.get(path)
        if old is None:
            made.append((path, entry))
            continue
        # nearly all of them
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
    """The same, with hard links kept: an overlay gives each name of a file an inode of its own when it is adjusted, so that
    these are made anew. Nobody must have changed them since they were made."""
    linked = tuple(row for row in change.adjusted if row[1].link)
    if not linked:
        return change
    return Update(
        removed=(*change.removed, *(path for path, _ in linked)),
        made=tuple(sorted((*change.made, *linked), key=itemgetter(0))),
        adjusted=tuple(row for row in change.adjusted if not row[1].link),
    )


def merge(base: Tree, changes: Iterable[Change], *, writer: str, applied: bool) -> Tree:
    """base with what a program changed: see take()."""
    editor = base.edit()
    take(editor, changes, writer=writer, applied=applied)
    return editor.build()


def take(editor: TreeEditor, changes: Iterable[Change], *, writer: str, applied: bool) -> None:
    """Put what a program changed, parents first, into the tree that it was shown.

    What equals the entry there in content and metadata is no change, even when it was written. applied: the tree was shown
    in full; else as materialise() made it, and what still looks so keeps the tree's metadata. Raises ScriptError for a name
    that is not UTF-8, which OSTree cannot hold.
    """
    links: set[str] | None = None
    groups: dict[int, str] = {}
    for change in changes:
        path = change.path
        _check_name(path, writer)
        if change.entry is None:
            editor.remove(path)
            continue
        entry = replace(change.entry, writer=writer)
        if change.inode:
            if links is None:
                links = editor.links()
            entry = replace(entry, link=groups.setdefault(change.inode, _new_link(path, links)))
        _put(editor, path, entry, change.opaque, applied)


def lost(changes: Iterable[Change], writer: str) -> Iterator[str]:
    """A line for each thing that a tree cannot hold."""
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
            # a script may have linked to it
            editor.put(path, replace(below, link=entry.link) if entry.link and not below.link else below)
            return
        entry = replace(
            entry, mode=below.mode, uid=below.uid, gid=below.gid, xattrs=below.with_xattr(_IMA, None).xattrs
        )
    else:
        # a live root does not show these, and they still hold
        for name, value in below.xattrs:
            if name.startswith(OVERLAY) or (name == _IMA and _same_content(below, entry)):
                entry = entry.with_xattr(name, value)
    editor.put(path, entry)


def adjusted(present: Entry, entry: Entry) -> Entry:
    """What a program made of a path, with the metadata of an entry."""
    kept = entry if _same_content(present, entry) else entry.with_xattr(_IMA, None)
    return replace(present, mode=entry.mode, uid=entry.uid, gid=entry.gid, xattrs=kept.xattrs)


def _metadata(entry: Entry) -> tuple[object, ...]:
    return entry.mode, entry.uid, entry.gid, kept_xattrs(entry)


def _same_content(one: Entry, other: Entry) -> bool:
    """Type, bytes and target: all but the metadata."""
    if (one.is_dir, one.target) != (other.is_dir, other.target):
        return False
    if one.blob is None or other.blob is None:
        return one.blob is other.blob
    return one.blob.digest == other.blob.digest


def _new_link(path: str, taken: set[str]) -> str:
    """A name for a hard-link group that no group of the base has."""
    name = f"workroot:{path}"
    while name in taken:
        name += "+"
    return name


def _check_name(path: str, writer: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ScriptError(
            f"{os.fsencode(path)!r} was made by {writer}: the name is not UTF-8",
            hint="a commit can only hold UTF-8 names; remove the file in a postprocess script",
        ) from error
