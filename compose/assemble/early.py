"""What scripts make before rpm unpacks files.

Here all files are there from the start. With rpm a file that %pretrans made is found before the transaction: the package's
replaces it, unless it is configuration (then one of the two is put beside the other); and what %pre writes is replaced
when the package is unpacked later than that. Rules: rpmfilesDecideFate() of librpm, and its order of doing things.
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

# macros of the system that is made, for scripts that ask for some
_RPM_CONFIGURATION = ("usr/lib/rpm", "etc/rpm")
# useradd in a %pre is what these are for, wherever in the order the package is that ships them
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
) -> tuple[Tree, tuple[ProgramRecord, ...]]:
    """Run %pretrans in a root that holds nothing but rpm's configuration; what they made of it, and the records.

    tree: of the packages. memory: of what programs did in other composes. run: runs one, and raises what its failure is.
    Raises what a Workroot raises.
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
    ) as root:
        for program in programs:
            run(root, program)
        return root.absorb(), root.records


def lay_under(
    tree: Tree, owners: Mapping[str, Owner], found: Tree, ordered: Sequence[PackageManifest]
) -> tuple[Tree, dict[str, Owner]]:
    """The tree of the packages with what was found before they were unpacked, and whose the entries of packages are.

    A found directory or symlink at a path that a package has is the package's.
    """
    manifests = {str(manifest.nevra): manifest for manifest in ordered}
    editor = tree.edit()
    kept = dict(owners)
    for path, theirs in found.walk():
        ours = tree.get(path)
        if ours is None:
            _add(editor, path, theirs)
        elif path in owners and ours.is_file and theirs.is_file and not _same(ours, theirs):
            flags = _flags(path, manifests[owners[path].package])
            if flags & FileFlag.CONFIG and flags & FileFlag.NOREPLACE:
                editor.put(f"{path}.rpmnew", ours)
                kept[f"{path}.rpmnew"] = kept.pop(path)
                editor.put(path, theirs)
            elif flags & FileFlag.CONFIG:
                editor.put(f"{path}.rpmorig", theirs)
    return editor.build(), kept


def settle(
    root: Workroot,
    tree: Tree,
    records: Sequence[ProgramRecord],
    ordered: Sequence[PackageManifest],
    packages: Mapping[str, str],
) -> None:
    """Give the root what rpm would have unpacked over what scripts wrote or removed. packages: path -> NEVRA of the package
    that it is of."""
    positions = {str(manifest.nevra): position for position, manifest in enumerate(ordered)}
    written: dict[str, int] = {}
    for record in records:
        kind, _, nevra = record.program.owner.partition(":")
        if kind == "scriptlet":
            # %pretrans is before all
            position = -1 if record.program.phase == "%pretrans" else positions[nevra]
            written |= dict.fromkeys(record.changed, position)
    # what was in a directory that is gone or was made anew need not be among what changed; deepest first, for the nearest one
    # says when
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
        now, above = root.get(path), root.get(parent_of(path))
        # rpm unpacks into the directory that it finds, also where a symlink leads to it
        if entry.is_dir and now is not None and not now.is_file:
            continue
        if parent_of(path) in restored or (above is not None and above.is_dir):
            restored.add(path)
    root.restore(sorted(restored))


def _flags(path: str, manifest: PackageManifest) -> FileFlag:
    """A path below a symlink is no configuration that anybody marked."""
    return next((file.flags for file in manifest.files if file.path == path), FileFlag(0))


def _same(one: Entry, other: Entry) -> bool:
    return one.blob is not None and other.blob is not None and one.blob.digest == other.blob.digest


def _add(editor: TreeEditor, path: str, entry: Entry) -> None:
    parent = editor.get(path.rpartition("/")[0])
    # where a package has something else than the directory that it was found in
    if parent is not None and parent.is_dir:
        editor.put(path, entry)
