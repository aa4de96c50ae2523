"""Handles directories of packages that a scriptlet replaces by symlinks.

In a compose all files exist before a scriptlet runs, and disappear with a directory that it removes. With rpm, the files of
packages that it unpacks later do not exist yet. rpm unpacks them through the symlink, if that leads to a directory and belongs
to root or to the directory's owner. Otherwise a package that ships the directory gets it in place of the symlink, and for any
other package rpm fails. Rules: fsmOpenat() and ensureDir() of librpm 6.1 (fsm.c).
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
    """A scriptlet that changed a path. name: "%post of NEVRA". since: position in install order of the first package that rpm
    unpacks after the scriptlet."""

    name: str
    since: int


def writers(records: Iterable[ProgramRecord], positions: Mapping[str, int]) -> dict[str, Script]:
    """Path -> the last scriptlet that changed it. positions: NEVRA -> position in install order. Triggers count as running
    after everything is unpacked."""
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
    """Return the tree and the owners with the files that rpm would unpack through symlinks, at the targets of these.
    Directories that rpm would create in place of a symlink are restored in the root.

    tree: what the root was given. The caller applies the returned one to the root; it is the same object if nothing changed.
    positions: NEVRA -> position in install order. written: from writers(). Raises AssembleError listing what rpm could not
    unpack.
    """
    moved: dict[str, str] = {}
    restored: set[str] = set()
    faults: list[str] = []
    for top, script in sorted(written.items()):
        link = root.get(top)
        if link is None or not link.is_symlink or not tree.is_dir(top):
            continue
        # a path that packages share is created by the first of them, its owner
        later = [
            path
            for path, _ in tree.walk(top)
            if path in owners and positions.get(owners[path].package, -1) >= script.since
        ]
        fault = _fault(root, top, _resolved(root, top))
        if not fault:
            moved |= dict.fromkeys(later, top)
        elif top in later:
            restored |= {ancestor for path in later for ancestor in _up_to(path, top)}
        elif later:
            more = f", and {len(later) - 1} more," if len(later) > 1 else ""
            faults.append(f"{_describe(root, owners, script, top, later[0], more)}, {fault}")
    targets = _Targets(root, tree, moved)
    faulty: set[str] = set()
    for path, top in sorted(moved.items()):
        try:
            targets.of(path)
        except TreeLookupError as error:
            if top not in faulty:
                faulty.add(top)
                faults.append(f"{_describe(root, owners, written[top], top, path)}, and {error}")
    if faults:
        raise AssembleError.of(
            faults,
            f"{len(faults)} directories that packages unpack into are now symlinks",
            hint="rpm would fail too: fix the scriptlet's package, or leave one of the two out with exclude-packages",
            most=_SHOWN,
        )
    if restored:
        root.restore(sorted(restored))
    if not moved:
        return tree, owners
    editor = tree.edit()
    kept = dict(owners)
    for path in sorted(moved):
        target = targets.of(path)
        _put(editor, root, target, tree, path)
        kept[target] = owners[path]
    return editor.build(), kept


def _describe(root: Workroot, owners: Mapping[str, Owner], script: Script, top: str, path: str, more: str = "") -> str:
    link = root.get(top)
    assert link is not None
    return (
        f"{owners[path].package}: /{path}{more} cannot be unpacked: {script.name} replaced the directory /{top} by a symlink "
        f"to {link.target}"
    )


class _Targets:
    """Where rpm unpacks the paths below symlinks that it follows. moved: each such path, and the symlink."""

    def __init__(self, root: Workroot, tree: Tree, moved: Mapping[str, str]) -> None:
        self._root = root
        self._tree = tree
        self._moved = moved
        self._directories = {top: root.resolve(top) for top in moved.values()}

    def of(self, path: str) -> str:
        """The path to which rpm unpacks a path. Raises TreeLookupError if something else is in the way."""
        if self._tree.is_dir(path):
            # rpm follows a symlink at the path of a directory, and sets the metadata of its target
            return self._directory(path)
        target = join(self._directory(parent_of(path)), name_of(path))
        present = self._root.get(target)
        if present is not None and present.is_dir:
            raise TreeLookupError(f"/{target} is a directory")
        return target

    def _directory(self, path: str) -> str:
        if path not in self._directories:
            target = join(self._directory(parent_of(path)), name_of(path))
            present = self._root.get(target)
            if present is not None and not present.is_dir:
                if present.is_symlink and not _fault(self._root, target, self._root.resolve(target)):
                    target = self._root.resolve(target)
                elif path not in self._moved:
                    # only a package that ships the directory gets it in place of what is there
                    raise TreeLookupError(f"/{target} is not a directory")
            self._directories[path] = target
        return self._directories[path]


def _fault(root: Workroot, link: str, target: str | None) -> str:
    """Why rpm does not follow a symlink; "" if it does. target: the resolved path, None if it leads nowhere."""
    directory = root.get(target) if target is not None else None
    if directory is None or not directory.is_dir:
        return "which does not lead to a directory"
    entry = root.get(link)
    assert entry is not None
    # any other owner could redirect it meanwhile
    return "" if entry.uid in (0, directory.uid) else f"which belongs to uid {entry.uid}"


def _resolved(root: Workroot, path: str) -> str | None:
    try:
        return root.resolve(path)
    except TreeLookupError:
        return None


def _up_to(path: str, top: str) -> Iterable[str]:
    """A path and its parent directories, up to and including top."""
    while path != top:
        yield path
        path = parent_of(path)
    yield top


def _put(editor: TreeEditor, root: Workroot, target: str, tree: Tree, path: str) -> None:
    """Put the tree's entry at `path` to `target`, with missing parent directories as the root has them."""
    entry = tree[path]
    missing: list[str] = []
    parent = parent_of(target)
    while parent not in editor:
        missing.append(parent)
        parent = parent_of(parent)
    for directory in reversed(missing):
        present = root.get(directory)
        if present is not None:
            editor.put(directory, present)
    replaced = editor.get(target)
    if replaced is not None and replaced.is_dir != entry.is_dir:
        editor.remove(target)
    editor.put(target, entry)
