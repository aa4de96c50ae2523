"""Directories of packages that a script replaced by symlinks.

Here all files are there before a script runs, and go with the directory that it removes. With rpm those of packages that it
unpacks later are not there yet: it unpacks them where the symlink leads to, if that is a directory and the symlink is root's or
of the directory's owner. Else it makes the directory of a package that owns it in the symlink's place, and fails for another.
Rules: fsmOpenat() and ensureDir() of librpm 6.1 (fsm.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compose.assemble.merge import Owner
from compose.errors import AssembleError
from compose.process import ProgramRecord
from compose.tree import Tree, TreeEditor, TreeLookupError, join, name_of, parent_of
from compose.values import value
from compose.workroot.workroot import Workroot

_SHOWN = 20


@value
class Script:
    """Who changed a path. name: "%post of NEVRA". since: position in install order of the first package that rpm unpacks after
    it."""

    name: str
    since: int


def writers(records: Iterable[ProgramRecord], positions: Mapping[str, int]) -> dict[str, Script]:
    """Path -> the last scriptlet that changed it. positions: NEVRA -> position in install order. A trigger counts as one that
    runs when all is unpacked."""
    found: dict[str, Script] = {}
    for record in records:
        kind, _, nevra = record.program.owner.partition(":")
        if kind != "scriptlet":
            continue
        phase = record.program.phase
        since = {"%pretrans": 0, "%pre": positions[nevra], "%post": positions[nevra] + 1}.get(phase, len(positions))
        found |= dict.fromkeys(record.changed, Script(name=f"{phase} of {nevra}", since=since))
    return found


def unpack_later(
    root: Workroot,
    tree: Tree,
    owners: dict[str, Owner],
    positions: Mapping[str, int],
    written: Mapping[str, Script],
) -> tuple[Tree, dict[str, Owner]]:
    """The tree to apply, and the owners: with what rpm would have unpacked through symlinks at the places where these lead to.
    Directories that rpm would have made in their place are there again in the root.

    tree: what the root was given; the same object is returned when there is nothing to apply. positions: NEVRA ->
    position in install order. written: of writers(). Raises AssembleError listing what rpm could not unpack.
    """
    found: dict[str, str] = {}
    again: set[str] = set()
    faults: list[str] = []
    for top, script in sorted(written.items()):
        now = root.get(top)
        if now is None or not now.is_symlink or not tree.is_dir(top):
            continue
        # of what packages share only the first one makes it
        later = [
            path
            for path, _ in tree.walk(top)
            if path in owners and positions.get(owners[path].package, -1) >= script.since
        ]
        fault = _fault(root, top, _resolved(root, top))
        if not fault:
            found |= dict.fromkeys(later, top)
        elif top in later:
            again |= {above for path in later for above in _down_to(path, top)}
        elif later:
            more = f", and {len(later) - 1} more," if len(later) > 1 else ""
            faults.append(f"{_story(root, owners, script, top, later[0], more)}, {fault}")
    places = _Places(root, tree, found)
    faulty: set[str] = set()
    for path, top in sorted(found.items()):
        try:
            places.of(path)
        except TreeLookupError as error:
            if top not in faulty:
                faulty.add(top)
                faults.append(f"{_story(root, owners, written[top], top, path)}, and {error}")
    if faults:
        raise AssembleError(
            faults[0] if len(faults) == 1 else f"{len(faults)} directories that packages unpack into are symlinks now",
            details=faults[:_SHOWN] if len(faults) > 1 else (),
            hint="rpm fails there too: fix the script's package, or leave one of the two out with exclude-packages",
        )
    if again:
        root.restore(sorted(again))
    if not found:
        return tree, owners
    editor = tree.edit()
    kept = dict(owners)
    for path in sorted(found):
        place = places.of(path)
        _put(editor, root, place, tree, path)
        kept[place] = owners[path]
    return editor.build(), kept


def _story(root: Workroot, owners: Mapping[str, Owner], script: Script, top: str, path: str, more: str = "") -> str:
    link = root.get(top)
    assert link is not None
    return (
        f"{owners[path].package}: /{path}{more} cannot be unpacked: {script.name} replaced the directory /{top} by a symlink "
        f"to {link.target}"
    )


class _Places:
    """Where rpm unpacks paths. found: those below symlinks that it follows, each with that symlink."""

    def __init__(self, root: Workroot, tree: Tree, found: Mapping[str, str]) -> None:
        self._root = root
        self._tree = tree
        self._found = found
        self._directories = {top: root.resolve(top) for top in found.values()}

    def of(self, path: str) -> str:
        """Raises TreeLookupError when there is something else in the way."""
        if self._tree.is_dir(path):
            # a directory's metadata go to where a symlink at its path leads to
            return self._directory(path)
        place = join(self._directory(parent_of(path)), name_of(path))
        now = self._root.get(place)
        if now is not None and now.is_dir:
            raise TreeLookupError(f"/{place} is a directory")
        return place

    def _directory(self, path: str) -> str:
        if path not in self._directories:
            place = join(self._directory(parent_of(path)), name_of(path))
            now = self._root.get(place)
            if now is not None and not now.is_dir:
                if now.is_symlink and not _fault(self._root, place, self._root.resolve(place)):
                    place = self._root.resolve(place)
                elif path not in self._found:
                    # a package that owns the directory gets it in the place of what is there
                    raise TreeLookupError(f"/{place} is no directory")
            self._directories[path] = place
        return self._directories[path]


def _fault(root: Workroot, link: str, place: str | None) -> str:
    """Why rpm does not follow a symlink, "" when it does. place: where it leads to, None for nowhere."""
    target = root.get(place) if place is not None else None
    if target is None or not target.is_dir:
        return "which leads to no directory"
    entry = root.get(link)
    assert entry is not None
    # whose it is may turn it elsewhere meanwhile
    return "" if entry.uid in (0, target.uid) else f"which belongs to the uid {entry.uid}"


def _resolved(root: Workroot, path: str) -> str | None:
    try:
        return root.resolve(path)
    except TreeLookupError:
        return None


def _down_to(path: str, top: str) -> Iterable[str]:
    """A path and the directories above it, as far as top."""
    while path != top:
        yield path
        path = parent_of(path)
    yield top


def _put(editor: TreeEditor, root: Workroot, place: str, tree: Tree, path: str) -> None:
    """What the tree has at a path, at a place; the directories above that as a script left them."""
    entry = tree[path]
    above: list[str] = []
    parent = parent_of(place)
    while parent not in editor:
        above.append(parent)
        parent = parent_of(parent)
    for each in reversed(above):
        now = root.get(each)
        if now is not None:
            editor.put(each, now)
    present = editor.get(place)
    if present is not None and present.is_dir != entry.is_dir:
        editor.remove(place)
    editor.put(place, entry)
