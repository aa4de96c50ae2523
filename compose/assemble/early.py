"""Files of packages that scripts wrote before rpm would have unpacked them.

Here all files are there from the start. With rpm a file that %pretrans made is found before the transaction: the package's
replaces it, unless it is configuration (then one of the two is put beside the other); and what %pre writes is replaced
when the package is unpacked later than that. Rules: rpmfilesDecideFate() of librpm, and its order of doing things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compose.blobs import BlobStore
from compose.process import ProgramRecord
from compose.rpm.manifest import FileFlag, PackageManifest
from compose.tree import Tree
from compose.workroot.workroot import Workroot

# useradd in a %pre is what these are for, wherever in the order the package is that ships them
_ACCOUNTS = frozenset(f"etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid"))


@dataclass(frozen=True, slots=True)
class _Writer:
    """position: of the script's package in the order of installation, -1 for %pretrans, which is before all. found: rpm
    finds the file there before the transaction."""

    position: int
    found: bool
    owner: str


def settle(
    root: Workroot,
    tree: Tree,
    records: Sequence[ProgramRecord],
    ordered: Sequence[PackageManifest],
    packages: Mapping[str, str],
    store: BlobStore,
) -> None:
    """Give the root the files that it would have with rpm. packages: path -> NEVRA of the package that it is of."""
    positions = {str(manifest.nevra): position for position, manifest in enumerate(ordered)}
    written: dict[str, _Writer] = {}
    for record in records:
        kind, _, nevra = record.program.owner.partition(":")
        if kind == "scriptlet":
            early = record.program.phase == "%pretrans"
            for path in record.changed:
                found = early or (path in written and written[path].found)
                written[path] = _Writer(-1 if early else positions[nevra], found, record.program.owner)
    restored = []
    for path, writer in written.items():
        entry = tree.get(path)
        if entry is None or entry.is_dir or path in _ACCOUNTS or path not in packages:
            continue
        position = positions[packages[path]]
        if writer.position > position:
            continue
        # a path below a symlink is no configuration that anybody marked
        flags = next((file.flags for file in ordered[position].files if file.path == path), 0)
        theirs = root.read(path)
        if not writer.found or theirs is None or entry.blob is None or not flags & FileFlag.CONFIG:
            restored.append(path)
        elif theirs != (shipped := store.read(entry.blob)):
            if flags & FileFlag.NOREPLACE:
                root.write(f"{path}.rpmnew", shipped, entry.permissions, writer=entry.writer)
            else:
                root.write(f"{path}.rpmorig", theirs, writer=writer.owner)
                restored.append(path)
    root.restore(restored)
