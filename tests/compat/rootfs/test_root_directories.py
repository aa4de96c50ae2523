"""Root directories: what is read of them, and what no commit can hold."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose import rootfs
from compose.blobs import BlobStore
from compose.commit import write_tree
from compose.errors import StorageError, UsageError
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from compose.rootfs import Root, read_rootfs
from compose.tree import Tree


def test_what_is_not_utf8(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    os.symlink(b"a\xff", os.fsencode(root / "usr/link"))
    Path(os.fsdecode(os.fsencode(root) + b"/usr/b\xff")).touch()
    with pytest.raises(UsageError, match="2 files cannot be committed") as caught:
        read(tmp_path)
    assert sorted(caught.value.details) == [
        "/usr/link has the target b'a\\xff', which is not UTF-8, as commits require",
        "b'usr/b\\xff' is not UTF-8, as commits require",
    ]


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an ordinary user, such as /etc/shadow; root may read everything."""
    root = make_root(tmp_path, {"usr/shadow": b""})

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{root}/usr/shadow")

    monkeypatch.setattr(rootfs, "hash_regular", refuse)
    with pytest.raises(StorageError, match=f"cannot read {root}/usr/shadow: Permission denied") as caught:
        read(tmp_path)
    assert caught.value.hint is not None
    assert "compose unshare" in caught.value.hint


def test_what_may_not_be_read_is_not_looked_at_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owners of a root directory in a user namespace are others outside."""
    root = make_root(tmp_path, {"usr/shadow": b""})
    monkeypatch.setattr(os, "access", lambda path, *_, **__: path != f"{root}/usr/shadow")
    store = BlobStore(str(tmp_path / "blobs"))
    with pytest.raises(StorageError, match=f"cannot read {root}/usr/shadow: Permission denied") as caught:
        read_rootfs(str(root), store, Reporter(), writer="x", jobs=1, hashed=False)
    assert caught.value.hint is not None
    assert "compose unshare" in caught.value.hint


def test_no_process_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is no fault of the directory."""
    make_root(tmp_path, {"usr/a": b"x"})

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(BlockingIOError):
        read(tmp_path)


def test_a_file_that_disappears_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path, {"usr/a": b"x"})
    real = rootfs.hash_regular

    def remove(*arguments: Any) -> None:
        (root / "usr/a").unlink()
        real(*arguments)

    monkeypatch.setattr(rootfs, "hash_regular", remove)
    with pytest.raises(StorageError, match=f"cannot read {root}/usr/a: No such file"):
        read(tmp_path)


def test_files_stay_where_they_are(tmp_path: Path) -> None:
    root = make_root(tmp_path, {"usr/a": b"one", "usr/b/c": b"two" * 1_000_000, "usr/empty": b""})
    os.link(root / "usr/a", root / "usr/b/a")
    os.setxattr(root / "usr/a", "user.x", b"y")
    store = BlobStore(str(tmp_path / "blobs"))
    tree = read_rootfs(str(root), store, Reporter(), writer="x", jobs=2).tree
    assert list(store.paths()) == []
    blobs = {path: blob for path, entry in tree.walk() if (blob := entry.blob) is not None}
    assert {path: store.read(blob) for path, blob in blobs.items()} == {
        "usr/a": b"one",
        "usr/b/a": b"one",
        "usr/b/c": b"two" * 1_000_000,
        "usr/empty": b"",
    }
    assert tree["usr/a"].link == tree["usr/b/a"].link == "rootfs:usr/a"
    assert tree["usr/b/a"].xattrs == ((b"user.x", b"y"),)
    assert tree["usr/b/c"].xattrs == ()


def test_contents_of_several_sizes(tmp_path: Path) -> None:
    """A worker reads small files at once and others in pieces; large holes not at all."""
    sizes = [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 7]
    root = make_root(tmp_path, {f"usr/{size}": os.urandom(size) for size in sizes})
    with open(root / "usr/sparse", "wb") as file:
        file.seek(70 << 20)
        file.write(b"end")
    store = BlobStore(str(tmp_path / "blobs"))
    tree = read_rootfs(str(root), store, Reporter(), writer="x", jobs=2).tree
    for name in (*map(str, sizes), "sparse"):
        blob = tree[f"usr/{name}"].blob
        assert blob is not None
        with open(root / "usr" / name, "rb") as file:
            assert blob.digest == hashlib.file_digest(file, "sha256").hexdigest()
        assert blob.size == (root / "usr" / name).stat().st_size


def test_nothing_is_read_of_a_tree_that_is_only_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path, {"usr/a": b"one", "usr/b": b"one"})
    os.link(root / "usr/a", root / "usr/link")
    os.setxattr(root / "usr/a", "user.x", b"y")
    os.setxattr(root / "usr/a", "user.w", b"v")
    # as large as ext4 allows: no disk has room for it
    os.truncate(root / "usr/b", 15 << 40)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(rootfs, "hash_regular", refuse)
    store = BlobStore(str(tmp_path / "blobs"))
    tree = read_rootfs(str(root), store, Reporter(), writer="x", jobs=1, hashed=False).tree
    blobs = {path: blob for path, entry in tree.walk() if (blob := entry.blob) is not None}
    assert blobs["usr/a"] == blobs["usr/link"]
    assert blobs["usr/a"].digest != blobs["usr/b"].digest
    assert blobs["usr/b"].size == 15 << 40
    assert tree["usr/link"].xattrs == ((b"user.w", b"v"), (b"user.x", b"y"))
    with open(store.open(blobs["usr/a"]), "rb") as file:
        assert file.read() == b"one"


@pytest.mark.parametrize("hashed", [True, False])
def test_xattrs_without_a_value_are_not_there(tmp_path: Path, hashed: bool) -> None:
    """`ostree commit` does not see them either, and clients would take an object with one for damaged."""
    root = make_root(tmp_path, {"usr/file": b""})
    for path in ("usr", "usr/file"):
        os.setxattr(root / path, "user.empty", b"")
        os.setxattr(root / path, "user.full", b"1")
    store = BlobStore(str(tmp_path / "blobs"))
    tree = read_rootfs(str(root), store, Reporter(), writer="x", jobs=1, hashed=hashed).tree
    assert tree["usr"].xattrs == tree["usr/file"].xattrs == ((b"user.full", b"1"),)


def test_a_file_that_changes_afterwards(tmp_path: Path) -> None:
    """It is neither taken with its new content nor removed as a damaged blob would be."""
    root = make_root(tmp_path, {"usr/a": b"before"})
    store = BlobStore(str(tmp_path / "blobs"))
    blob = read_rootfs(str(root), store, Reporter(), writer="x", jobs=1).tree["usr/a"].blob
    assert blob is not None
    (root / "usr/a").write_bytes(b"behind")
    with pytest.raises(StorageError, match="usr/a changed while it was read"):
        store.read(blob)
    assert (root / "usr/a").read_bytes() == b"behind"
    (root / "usr/a").unlink()
    with pytest.raises(StorageError, match="usr/a changed while it was read"):
        store.read(blob)
    os.mkfifo(root / "usr/a")
    with pytest.raises(StorageError, match="usr/a changed while it was read"):
        store.read(blob)


def test_a_path_that_looks_like_the_name_of_a_group_of_links(tmp_path: Path) -> None:
    root = make_root(tmp_path, {"usr/a": b"AAAA", "rootfs:usr/a": b"BBBB"})
    os.link(root / "usr/a", root / "usr/b")
    for path in root.glob("**/a"):
        os.utime(path, (1, 1))
    store = BlobStore(str(tmp_path / "blobs"))
    tree = read_rootfs(str(root), store, Reporter(), writer="x", jobs=1).tree
    assert content(tree, store, "usr/b") == b"AAAA"
    assert content(tree, store, "rootfs:usr/a") == b"BBBB"


def test_a_blob_that_was_made_meanwhile(tmp_path: Path) -> None:
    """It counts as hashed, so that the borrowed file, which has changed since, is not read in its place."""
    root = make_root(tmp_path, {"usr/a": b"before"})
    os.utime(root / "usr/a", (5, 5))
    store = BlobStore(str(tmp_path / "blobs"))
    tree = read_rootfs(str(root), store, Reporter(), writer="x", jobs=1).tree
    blob = tree["usr/a"].blob
    assert blob is not None
    assert store.source(blob) == f"{root}/usr/a"
    assert store.add_bytes(b"before", blob.mode, 5) == blob
    (root / "usr/a").write_bytes(b"behind")
    os.utime(root / "usr/a", (5, 5))
    assert content(tree, store, "usr/a") == b"before"
    with (
        Repo.create(str(tmp_path / "repo")) as repo,
        Transaction(repo, jobs=1, reporter=Reporter()) as transaction,
    ):
        write_tree(tree, store, transaction, lambda _objects, _size: None)
    assert os.path.samefile(store.source(blob), store.path(blob))


@pytest.mark.parametrize(
    "replace",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: os.symlink("/etc/passwd", path),
        lambda path: path.write_bytes(b"longer than before"),
        lambda path: path.write_bytes(b"behind"),
    ],
)
def test_a_file_that_changes_before_it_is_copied(tmp_path: Path, replace: Callable[[Path], None]) -> None:
    """To a workroot or to another root directory, without being hashed again."""
    root = make_root(tmp_path, {"usr/a": b"before"})
    os.utime(root / "usr/a", (5, 5))
    store = BlobStore(str(tmp_path / "blobs"))
    blob = read_rootfs(str(root), store, Reporter(), writer="x", jobs=1).tree["usr/a"].blob
    assert blob is not None
    (root / "usr/a").unlink()
    replace(root / "usr/a")
    with pytest.raises(StorageError, match="usr/a changed while it was read"):
        store.open(blob)


def test_a_file_that_changes_before_its_object_is_written(tmp_path: Path) -> None:
    root = make_root(tmp_path, {"usr/a": b"before"})
    store = BlobStore(str(tmp_path / "blobs"))
    tree = read_rootfs(str(root), store, Reporter(), writer="x", jobs=1).tree
    (root / "usr/a").write_bytes(b"behind")
    with (
        Repo.create(str(tmp_path / "repo")) as repo,
        pytest.raises(StorageError, match="usr/a changed while it was read"),
        Transaction(repo, jobs=1, reporter=Reporter()) as transaction,
    ):
        write_tree(tree, store, transaction, lambda _objects, _size: None)
    assert (root / "usr/a").read_bytes() == b"behind"
    assert not list(tmp_path.glob("repo/objects/*/*"))


def test_a_file_that_grows_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path, {"usr/a": b"x"})
    real = rootfs.hash_regular

    def grow(*arguments: Any) -> None:
        (root / "usr/a").write_bytes(b"xyz")
        real(*arguments)

    monkeypatch.setattr(rootfs, "hash_regular", grow)
    with pytest.raises(StorageError, match="usr/a changed while it was read"):
        read(tmp_path)


@pytest.mark.parametrize("replace", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_a_file_that_is_replaced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: Callable[[Path], None]
) -> None:
    root = make_root(tmp_path, {"usr/a": b"x"})
    real = rootfs.hash_regular

    def swap(*arguments: Any) -> None:
        (root / "usr/a").unlink()
        replace(root / "usr/a")
        real(*arguments)

    monkeypatch.setattr(rootfs, "hash_regular", swap)
    with pytest.raises(StorageError, match="usr/a"):
        read(tmp_path)


def make_root(tmp_path: Path, files: dict[str, bytes]) -> Path:
    root = tmp_path / "root"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def content(tree: Tree, store: BlobStore, path: str) -> bytes:
    blob = tree[path].blob
    assert blob is not None
    return store.read(blob)


def read(tmp_path: Path) -> Root:
    return read_rootfs(str(tmp_path / "root"), BlobStore(str(tmp_path / "blobs")), Reporter(), writer="x", jobs=1)
