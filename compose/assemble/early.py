"""Applies what rpm does with files that scriptlets create before it unpacks the packages.

In a compose all files exist from the start. rpm, however, finds a file that %pretrans created before the transaction: the
package's file replaces it, except for configuration, where one of the two is saved under another name. And what %pre writes is
replaced if the package with that file is unpacked later. Rules: rpmfilesDecideFate() and the order of operations in librpm.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from compose.assemble.merge import Owner
from compose.blobs import BlobStore
from compose.events import Reporter
from compose.process import Program, ProgramRecord
from compose.rpm.manifest import FileFlag, PackageManifest
from compose.tree import Entry, Tree, TreeEditor, parent_of
from compose.workroot.memory import ProgramMemory
from compose.workroot.workroot import Workroot

# macros of the composed system, for scriptlets that expand some
_RPM_CONFIGURATION = ("usr/lib/rpm", "etc/rpm")
# a useradd in %pre must be kept, no matter when the package that ships these files is unpacked
_ACCOUNTS = frozenset(f"etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid"))


def run_first(
    programs: Sequence[Program],
    tree: Tree,
    store: BlobStore,
    workdir: str,
    reporter: Reporter,
    epoch: int,
    memory: ProgramMemory | None,
    run: Callable[[Workroot, Program], None],
    foreign: str | None,
) -> tuple[Tree, tuple[ProgramRecord, ...]]:
    """Run %pretrans scriptlets in a root that contains only rpm's configuration; returns the resulting tree and the records.

    tree: that of the packages. memory: results of programs in earlier composes. run: runs one program, and raises an error
    if it fails. foreign: as of Workroot. Raises the errors of Workroot.
    """
    if not programs:
        return Tree.empty(), ()
    editor = Tree.empty().edit()
    for top in _RPM_CONFIGURATION:
        for path, entry in tree.walk(top) if tree.is_dir(top) else ():
            editor.put(path, entry)
    with Workroot(
        editor.build(),
        store,
        os.path.join(workdir, "first"),
        reporter=reporter,
        epoch=epoch,
        memory=memory,
        passing=True,
        foreign=foreign,
    ) as root:
        for program in programs:
            run(root, program)
        return root.absorb(), root.records


def lay_under(
    tree: Tree, owners: Mapping[str, Owner], found: Tree, ordered: Sequence[PackageManifest]
) -> tuple[Tree, dict[str, Owner]]:
    """The packages' tree combined with what %pretrans left, and the owners of the packages' entries.

    found: what %pretrans left. A directory or symlink in it gives way to any entry of a package.
    """
    manifests = {str(manifest.nevra): manifest for manifest in ordered}
    editor = tree.edit()
    kept = dict(owners)
    for path, early in found.walk():
        shipped = tree.get(path)
        if shipped is None:
            _add(editor, path, early)
        elif path in owners and shipped.is_file and early.is_file and not _same(shipped, early):
            flags = _flags(path, manifests[owners[path].package])
            if flags & FileFlag.CONFIG and flags & FileFlag.NOREPLACE:
                editor.put(f"{path}.rpmnew", shipped)
                kept[f"{path}.rpmnew"] = kept.pop(path)
                editor.put(path, early)
            elif flags & FileFlag.CONFIG:
                editor.put(f"{path}.rpmorig", early)
    return editor.build(), kept


def settle(
    root: Workroot,
    tree: Tree,
    records: Sequence[ProgramRecord],
    ordered: Sequence[PackageManifest],
    packages: Mapping[str, str],
) -> None:
    """Restore files that scriptlets changed or removed before rpm would have unpacked them. records: of what has run in `root`.
    packages: path -> NEVRA of the package that ships it."""
    positions = {str(manifest.nevra): position for position, manifest in enumerate(ordered)}
    written: dict[str, int] = {}
    for record in records:
        kind, _, nevra = record.program.owner.partition(":")
        if kind == "scriptlet":
            # %pretrans runs before any package is unpacked
            position = -1 if record.program.phase == "%pretrans" else positions[nevra]
            written |= dict.fromkeys(record.changed, position)
    # The content of a directory that was removed or replaced need not be listed as changed: it changed with the
    # directory. Deepest first, since the nearest such directory counts.
    for top in sorted((path for path in written if tree.is_dir(path)), reverse=True):
        gone = root.get(top) is None
        for path, _ in tree.walk(top):
            if gone:
                written[path] = max(written[top], written.get(path, -1))
            elif root.get(path) is None:
                written.setdefault(path, written[top])
    restored: set[str] = set()
    for path in sorted(written):
        entry = tree.get(path)
        if entry is None or path in _ACCOUNTS or path not in packages or written[path] > positions[packages[path]]:
            continue
        present, parent = root.get(path), root.get(parent_of(path))
        # rpm unpacks into an existing directory, even through a symlink
        if entry.is_dir and present is not None and not present.is_file:
            continue
        if parent_of(path) in restored or (parent is not None and parent.is_dir):
            restored.add(path)
    root.restore(sorted(restored))


def _flags(path: str, manifest: PackageManifest) -> FileFlag:
    """Flags of a package's file; none for a path that the package ships under another name, through a symlink."""
    return next((file.flags for file in manifest.files if file.path == path), FileFlag(0))


def _same(one: Entry, other: Entry) -> bool:
    return one.blob is not None and other.blob is not None and one.blob.digest == other.blob.digest


def _add(editor: TreeEditor, path: str, entry: Entry) -> None:
    parent = editor.get(parent_of(path))
    # skipped if a package ships something other than a directory there
    if parent is not None and parent.is_dir:
        editor.put(path, entry)
