"""Contents from the store in a root: hard links if possible, reflinks or copies; the root looks the same."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from compose import fs
from compose.blobs import BlobStore
from compose.tree import Tree
from compose.workroot.materialise import materialise
from tests.support.filesystem import mounted
from tests.support.ordinary import Stage

pytestmark = pytest.mark.root
# ext4's EXT4_LINK_MAX
_MOST_LINKS = 65_000


def tree_of(store: BlobStore, *names: str) -> Tree:
    editor = Tree.empty().edit()
    blob = store.add_bytes(b"x" * 10_000, 0o755, 1_000_000_000)
    for name in names:
        editor.add_file(name, blob, 0o755, writer="t")
    return editor.build()


def check(path: Path, *, links: int) -> None:
    status = path.stat()
    assert path.read_bytes() == b"x" * 10_000
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_uid) == (0o755, 10**18, 0)
    assert status.st_nlink == links


def test_a_blob_with_all_the_links_it_can_have_is_copied(tmp_path: Path) -> None:
    with mounted("ext4", tmp_path / "ext4") as top:
        store = BlobStore(str(top / "blobs"))
        tree = tree_of(store, "one", "two", "three")
        blob = store.path(tree["one"].blob)
        (top / "links").mkdir()
        for number in range(_MOST_LINKS - 2):
            os.link(blob, top / "links" / str(number))
        (top / "root").mkdir()
        materialise(tree, store, str(top / "root"))
        # one went, the name of the blob itself being one too
        check(top / "root/one", links=_MOST_LINKS)
        check(top / "root/three", links=1)
        check(top / "root/two", links=1)
        assert store.has(tree["one"].blob)


@pytest.mark.parametrize(("one", "other"), [("ext4", "tmpfs"), ("tmpfs", "ext4"), ("btrfs", "xfs"), ("xfs", "ext4")])
def test_between_two_filesystems_it_is_copied(tmp_path: Path, one: str, other: str) -> None:
    with mounted(one, tmp_path / "one") as here, mounted(other, tmp_path / "other") as there:
        store = BlobStore(str(here / "blobs"))
        tree = tree_of(store, "a", "b")
        for top, links in ((here, 3), (there, 1)):
            (top / "root").mkdir()
            materialise(tree, store, str(top / "root"))
            check(top / "root/a", links=links)
            check(top / "root/b", links=links)


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_extents_are_shared_where_the_filesystem_can(tmp_path: Path, kind: str) -> None:
    with mounted(kind, tmp_path / "fs") as top:
        source = top / "source"
        source.write_bytes(os.urandom(32 << 20))
        os.sync()
        before = os.statvfs(top).f_bfree * os.statvfs(top).f_frsize
        with source.open("rb") as one, (top / "copy").open("wb") as other:
            fs.clone_or_copy(one.fileno(), other.fileno())
        os.sync()
        assert before - os.statvfs(top).f_bfree * os.statvfs(top).f_frsize < 8 << 20
        assert (top / "copy").read_bytes() == source.read_bytes()


def test_a_disk_is_full_although_the_hosts_root_could_still_write(tmp_path: Path) -> None:
    """ext4 keeps blocks for root, which root of an ordinary user's namespace is not."""
    program = (
        "import contextlib\nfrom compose import fs\nfrom compose.blobs import BlobStore\nfrom compose.sandbox import identity\n"
        "store = BlobStore('/mnt/disk/blobs')\n"
        "with contextlib.suppress(OSError), open('/mnt/disk/filler', 'wb', buffering=0) as file:\n"
        "    while True: file.write(bytes(1 << 12))\n"
        "before = fs.is_full('/mnt/disk'), store.has_room(1 << 21)\n"
        "identity.enter()\n"
        "print(*before, fs.is_full('/mnt/disk'), store.has_room(1 << 21))"
    )
    with mounted("ext4", tmp_path / "disk") as disk:
        disk.chmod(0o777)
        done = Stage(directory=tmp_path, bound={"disk": disk}).run(sys.executable, "-c", program)
        assert done.stdout.split() == ["True", "False", "True", "False"]
        assert not fs.is_full(str(disk))
