"""Finds out what this machine allows by trying it: writes a small tree, applies owners and enters the sandbox."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

from compose.blobs import BlobStore
from compose.errors import SandboxError
from compose.process import Program
from compose.sandbox import emulation
from compose.sandbox.identity import NEEDED_IDS
from compose.tree import Entry, Tree
from compose.workroot.live import LiveRoot, make_directory
from compose.workroot.merge import update
from compose.workroot.server import Rung

_OWNER = "step:probe"
_NOT_FOUND = 127
_FOREIGN = "foreign"
_NOBODY = NEEDED_IDS - 1
# cap_net_raw=ep as on disk, linux/capability.h: struct vfs_cap_data
_CAPABILITY = (b"security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))


def probe(store: BlobStore, workdir: str, foreign: str | None = None) -> Rung:
    """Find out how programs will be sandboxed on this machine. workdir: a private directory on the cachedir's filesystem.
    foreign: another architecture than this machine's, of which a program is run.

    Raises SandboxError with a remedy if they cannot be, and StorageError.
    """
    tree = _tree(store, foreign)
    # sets up everything, and fails only at exec
    program = Program(owner=_OWNER, phase="probe", argv=("/none",))
    directory = os.path.join(workdir, "probe")
    make_directory(directory)
    live = LiveRoot(tree, store, directory, epoch=0, foreign=foreign)
    try:
        live.show(update(tree, tree, applied=False))
        record = live.run(program, observed=False).record
        if record.status != _NOT_FOUND:
            raise SandboxError(f"the sandbox's test program ended with status {record.status}: {record.output.strip()}")
        if foreign is not None:
            emulated = live.run(replace(program, argv=(f"/{_FOREIGN}",)), observed=False).record
            if emulated.status != emulation.EXIT:
                raise SandboxError(
                    f"{emulation.emulator_for(foreign)} does not run a program for {foreign} here: it ended with status "
                    f"{emulated.status}: {emulated.output.strip()}",
                    hint=f"compose on a machine of {foreign}",
                )
        return live.rung
    finally:
        live.close()


def _tree(store: BlobStore, foreign: str | None) -> Tree:
    """A tree with a program of another architecture, a setuid file owned by nobody, a file with a capability and a private
    directory."""
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
    if foreign is not None:
        editor.add_file(_FOREIGN, store.add_bytes(emulation.FORMATS[foreign].program(), 0o755), 0o755, writer=_OWNER)
    return editor.build()
