"""A small system whose programs are this machine's shell and tools."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from compose.blobs import BlobStore
from compose.tree import Tree

_TOOLS = ("sh", "bash", "env", "cat", "ls", "mkdir", "rm", "touch", "id", "stat", "test", "grep")
_FILES = {
    "etc/passwd": b"root:x:0:0::/root:/bin/sh\nchrony:x:998:996::/:/bin/false\n",
    "etc/group": b"root:x:0:\nchrony:x:996:\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\n",
    "usr/lib/os-release": b'ID=test\nPRETTY_NAME="Test 1"\nVERSION="1"\n',
    "usr/lib/libnss_altfiles.so.2": b"",
    "usr/lib/sysimage/rpm/rpmdb.sqlite": b"db",
    "usr/lib/modules/6.1/vmlinuz": b"kernel",
    "usr/lib/modules/6.1/modules.dep": b"",
    "usr/lib/dracut/modules.d/98ostree/module-setup.sh": b"",
    "root/.profile": b"",
}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return BlobStore(str(tmp_path_factory.mktemp("blobs") / "store"))


@pytest.fixture(scope="session")
def small(store: BlobStore) -> Tree:
    """A miniature assembled tree."""
    editor = Tree.empty().edit()
    for name in ("dev", "proc", "sys", "run", "tmp", "boot", "etc", "var/lib", "usr/bin", "usr/lib"):
        editor.add_dir(name, writer="package:test")
    editor.add_dir("var/lib/chrony", 0o750, uid=998, gid=996, writer="package:test")
    for link, target in (("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")):
        editor.add_symlink(link, target, writer="package:test")
    editor.add_symlink("etc/os-release", "../usr/lib/os-release", writer="package:test")
    for path, data in _FILES.items():
        editor.add_file(path, store.add_bytes(data), writer="package:test")
    for tool in _TOOLS:
        source = shutil.which(tool)
        assert source, tool
        libraries = subprocess.run(["ldd", source], stdout=subprocess.PIPE, text=True, check=False).stdout.split()
        for path in (f"/usr/bin/{tool}", *(word for word in libraries if word.startswith("/"))):
            # where it is asked for, below /usr as on every merged system
            place = path.lstrip("/") if path.startswith("/usr/") else f"usr{path}"
            if place not in editor:
                fd = os.open(source if path.endswith(f"/{tool}") else path, os.O_RDONLY)
                editor.add_file(place, store.add_fd(fd, 0o755, 0), 0o755, writer="package:test")
                os.close(fd)
    return editor.build()
