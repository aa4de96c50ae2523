"""A small root to run programs in, built from this machine's shell and tools."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.tree import Entry, Tree

TOOLS = (
    *("sh", "cat", "chmod", "chown", "cp", "id", "ln", "ls", "mkdir", "mknod", "mkfifo", "mount", "mv", "rm", "rmdir"),
    *(
        "setpriv",
        "sleep",
        "touch",
        "true",
        "false",
        "env",
        "hostname",
        "getcap",
        "setcap",
        "setfattr",
        "readlink",
        "tail",
        "head",
        "python3",
    ),
)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    # not on /tmp: it may be a tmpfs, and the overlay on a disk is what composes use
    return BlobStore(str(tmp_path_factory.mktemp("blobs") / "store"))


@pytest.fixture(scope="session")
def small(store: BlobStore) -> Tree:
    """dash, coreutils and what they are linked with; a few files to change."""
    editor = Tree.empty().edit()
    for name in ("etc", "dev", "proc", "sys", "run", "tmp", "var/tmp", "root", "usr/bin", "usr/lib", "usr/full/deep"):
        editor.add_dir(name, writer="t")
    for link, target in (("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin"), ("lib", "usr/lib")):
        editor.add_symlink(link, target, writer="t")
    editor.add_symlink("lib64", "usr/lib64", writer="t")

    def add(source: str, path: str) -> None:
        if path not in editor:
            fd = os.open(source, os.O_RDONLY)
            editor.add_file(path, store.add_fd(fd, 0o755, 1000), 0o755, writer="t")
            os.close(fd)

    for tool in TOOLS:
        program = shutil.which(tool)
        assert program, tool
        add(program, f"usr/bin/{tool}")
        listing = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=False).stdout
        for word in listing.split():
            if word.startswith("/") and os.path.exists(word):
                # at the path it is asked for, below /usr as on every merged system
                add(word, word.lstrip("/") if word.startswith("/usr/") else f"usr{word}")
    for name, data in (("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"), ("usr/full/a", b"a"), ("usr/full/deep/b", b"b")):
        editor.add_file(name, store.add_bytes(data, 0o644, 5), writer="t")
    editor.put(
        "usr/setuid",
        Entry(
            mode=stat.S_IFREG | 0o4755, uid=3, gid=4, blob=store.add_bytes(b"setuid", 0o4755, 5), mtime=5, writer="t"
        ),
    )
    editor.put(
        "usr/capable",
        Entry(
            mode=stat.S_IFREG | 0o755,
            xattrs=((b"security.capability", bytes.fromhex("0100000200200000000000000000000000000000")),),
            blob=store.add_bytes(b"capable", 0o755, 5),
            mtime=5,
            writer="t",
        ),
    )
    editor.put("usr/private", Entry(mode=stat.S_IFDIR | 0o2750, uid=1, gid=2, writer="t"))
    return editor.build()


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "workroot")
