"""Live roots where a plain overlay cannot be: on tmpfs, on an overlay, on an overlay on an overlay; and leftovers.

The filesystems are mounted in a process of its own, whose mounts go with it; its programs are Lua, which needs no tools.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import StorageError
from compose.events import Reporter
from compose.process import Program, ProgramRecord
from compose.sandbox import kernel
from compose.tree import Tree
from compose.workroot.workroot import Workroot

pytestmark = pytest.mark.root

_FIRST = """
    local file = io.open("/etc/append", "a") file:write("more") file:close()
    os.remove("/etc/removed")
    posix.mkdir("/etc/made")
    posix.chown("/etc/made", 5, 6)
    posix.chmod("/etc/touched", "rw-r--r--")
    posix.symlink("append", "/etc/link")
    os.remove("/full/deep/b") posix.rmdir("/full/deep") os.remove("/full/a") posix.rmdir("/full") posix.mkdir("/full")
    file = io.open("/full/c", "w") file:write("c") file:close()
"""


class Notes(Reporter):
    def info(self, message: str) -> None:
        print("info", message.partition(":")[2])

    def warn(self, message: str) -> None:
        print("warn", message.partition(":")[2])


def tree_of(store: BlobStore) -> Tree:
    editor = Tree.empty().edit()
    for name in ("dev", "proc", "sys", "run", "tmp", "var/tmp", "etc", "full/deep"):
        editor.add_dir(name, writer="t")
    for name in ("etc/append", "etc/same", "etc/removed", "etc/touched", "full/a", "full/deep/b"):
        editor.add_file(name, store.add_bytes(b"text", 0o644, 5), writer="t")
    editor.add_file("etc/secret", store.add_bytes(b"secret", 0o600, 5), 0o600, writer="t", uid=4, gid=5)
    return editor.build()


def lua(body: str) -> Program:
    return Program(owner="x", phase="%post", argv=("<lua>", "1"), body=body, lua=True)


def main(base: str, layers: str) -> None:
    """Compose at `base`, on as many overlays as `layers` says ("tmpfs": none, but a tmpfs)."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    # an overlay's upper layer must be on something that is none
    kernel.mount("tmpfs", base, "tmpfs")
    place = f"{base}/place"
    os.mkdir(place)
    for number in range(int(layers)):
        parts = {name: f"{base}/{name}{number}" for name in ("upper", "work", "place")}
        for path in parts.values():
            os.mkdir(path)
        data = f"lowerdir={place},upperdir={parts['upper']},workdir={parts['work']}"
        place = parts["place"]
        kernel.mount("overlay", place, "overlay", 0, data)
    store = BlobStore(f"{place}/blobs")
    before = tree_of(store)
    with Workroot(before, store, f"{place}/workroot", reporter=Notes(), epoch=1) as root:
        root.apply(before)
        record: ProgramRecord = root.run(lua(_FIRST))
        print("status", record.status, record.output)
        print("changed", *record.changed)
        print("nothing", *root.run(lua("return")).changed)
        after = root.absorb()
    for path in sorted(before.entries.keys() | after.entries.keys()):
        if before.get(path) != after.get(path):
            print("differs", path)
    blob = before["etc/append"].blob
    assert blob is not None
    print("blob", store.read(blob).decode())
    now = after["etc/append"].blob
    assert now is not None
    print("now", store.read(now).decode())
    print("owner", after["etc/made"].uid, after["etc/made"].gid)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("0", []),
        ("1", ["info  they are kept in memory"]),
        ("2", ["warn  every file is copied"]),
    ],
)
def test_the_same_changes_everywhere(layers: str, said: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), layers], stdout=subprocess.PIPE, text=True, check=False
    )
    lines = done.stdout.splitlines()
    assert lines[: len(said)] == said
    lines = lines[len(said) :]
    assert lines[0] == "status 0 "
    changed = lines[1].split()[1:]
    assert set(changed) >= {"etc/append", "etc/removed", "etc/made", "etc/link", "full", "full/c"}
    assert not {"etc", "etc/same", "etc/secret"} & set(changed)
    assert lines[2] == "nothing"
    assert [line.split()[1] for line in lines if line.startswith("differs")] == [
        "etc/append",
        "etc/link",
        "etc/made",
        "etc/removed",
        "full/a",
        "full/c",
        "full/deep",
        "full/deep/b",
    ]
    assert lines[-3:] == ["blob text", "now textmore", "owner 5 6"]
    assert done.returncode == 0


def test_what_a_killed_compose_left_is_cleaned(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    (tmp_path / "w/layers/work/work").mkdir(parents=True)
    (tmp_path / "w/lower/old").mkdir(parents=True)
    with Workroot(tree_of(store), store, str(tmp_path / "w"), reporter=Reporter(), epoch=1) as root:
        root.run(lua("assert(not io.open('/old'))"))
        assert root.records[0].status == 0, root.records
        assert not (tmp_path / "w/lower/old").exists()
        assert os.stat(tmp_path / "w").st_mode & 0o777 == 0o700
    assert not (tmp_path / "w").exists()


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    (tmp_path / "w/mine").mkdir(parents=True)
    with (
        pytest.raises(StorageError, match="not of a workroot"),
        Workroot(tree_of(store), store, str(tmp_path / "w"), reporter=Reporter(), epoch=1),
    ):
        pass
    assert (tmp_path / "w/mine").is_dir()


if __name__ == "__main__":
    main(*sys.argv[1:])
