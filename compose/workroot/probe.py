"""What this machine allows, found by doing it: a small tree is made, owned and entered, as composes do it."""

from __future__ import annotations

import os
import stat

from compose.blobs import BlobStore
from compose.errors import SandboxError
from compose.process import Program
from compose.sandbox.identity import NEEDED_IDS
from compose.tree import Entry, Tree
from compose.workroot.live import LiveRoot, make_directory
from compose.workroot.merge import update
from compose.workroot.server import Rung

_OWNER = "step:probe"
_NOT_FOUND = 127
_NOBODY = NEEDED_IDS - 1
# cap_net_raw=ep as on disk, linux/capability.h: struct vfs_cap_data
_CAPABILITY = (b"security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))


def probe(store: BlobStore, workdir: str) -> Rung:
    """Which rung of the ladder composes will stand on here. workdir: private, where they will work.

    Raises SandboxError, with the way out, when there is none, StorageError.
    """
    tree = _tree(store)
    # all is done for it but to run it
    program = Program(owner=_OWNER, phase="probe", argv=("/none",))
    directory = os.path.join(workdir, "probe")
    make_directory(directory)
    live = LiveRoot(tree, store, directory, epoch=0)
    try:
        live.show(update(tree, tree, applied=False))
        record = live.run(program, observed=False).record
        if record.status != _NOT_FOUND:
            raise SandboxError(f"a program in the sandbox ended with status {record.status}: {record.output.strip()}")
        return live.rung
    finally:
        live.close()


def _tree(store: BlobStore) -> Tree:
    """A setuid program of nobody, one with a capability, a private directory."""
    editor = Tree.empty().edit()
    for name in ("dev", "proc", "sys", "run", "tmp"):
        editor.add_dir(name, writer=_OWNER)
    blob = store.add_bytes(b"probe", 0o4755)
    editor.put(
        "setuid",
        Entry(mode=stat.S_IFREG | 0o4755, uid=_NOBODY, gid=_NOBODY, blob=blob, mtime=0, writer=_OWNER),
    )
    editor.put("capable", Entry(mode=stat.S_IFREG | 0o755, xattrs=(_CAPABILITY,), blob=blob, mtime=0, writer=_OWNER))
    editor.put("private", Entry(mode=stat.S_IFDIR | 0o700, uid=1, gid=2, writer=_OWNER))
    return editor.build()
