from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose import blobs
from compose.blobs import BlobStore, plain_mode
from compose.errors import DamagedError, StorageError
from compose.tree import BlobRef


@pytest.fixture
def store(tmp_path):
    return BlobStore(str(tmp_path / "blobs"))


@pytest.fixture
def no_tmpfile(monkeypatch):
    """A filesystem without O_TMPFILE."""
    real = os.open

    def refuse(path, flags, *rest, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)


def leftovers(store):
    return os.listdir(os.path.join(store.root, "tmp"))


def test_a_blob_is_an_inode_with_the_mode_and_mtime_of_its_name(store):
    ref = store.add_bytes(b"content", 0o755, 1234567890)
    assert ref == BlobRef(digest=hashlib.sha256(b"content").hexdigest(), size=7, mode=0o755, mtime=1234567890)
    status = os.stat(store.path(ref))
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o755, 1234567890 * 10**9)
    assert store.has(ref)
    assert store.read(ref) == b"content"


@pytest.mark.parametrize(
    ("permissions", "stored"),
    [(0o644, 0o644), (0o755, 0o755), (0o600, 0o600), (0o4755, 0o600), (0o640, 0o600), (0o1755, 0o600), (0, 0o600)],
)
def test_only_the_two_plain_modes_are_kept(store, permissions, stored):
    assert plain_mode(permissions) == stored
    assert store.add_bytes(b"x", permissions).mode == stored


def test_mode_and_mtime_make_different_inodes(store):
    refs = [store.add_bytes(b"same", mode, mtime) for mode in (0o644, 0o755) for mtime in (1, 2)]
    assert len({os.stat(store.path(ref)).st_ino for ref in refs}) == 4


def test_the_umask_does_not_matter(store):
    before = os.umask(0o077)
    try:
        ref = store.add_bytes(b"x", 0o755)
    finally:
        os.umask(before)
    assert store.has(ref)


@given(pieces=st.lists(st.binary(max_size=40), max_size=8))
def test_pieces_make_the_whole(tmp_path_factory, pieces):
    store = BlobStore(str(tmp_path_factory.mktemp("store")))
    with store.writer() as writer:
        for piece in pieces:
            writer.write(memoryview(piece))
        ref = writer.commit()
    assert store.read(ref) == b"".join(pieces)
    assert ref.digest == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_a_blob_that_is_there_keeps_its_inode(store):
    ref = store.add_bytes(b"once")
    before = os.stat(store.path(ref))
    assert store.add_bytes(b"once") == ref
    assert os.stat(store.path(ref)).st_ino == before.st_ino


def test_a_blob_cut_short_is_denied_and_replaced(store):
    ref = store.add_bytes(b"something")
    os.truncate(store.path(ref), 3)
    assert not store.has(ref)
    store.add_bytes(b"something")
    assert store.has(ref)
    assert store.read(ref) == b"something"
    assert leftovers(store) == []


@pytest.fixture(params=["o_tmpfile", "no_tmpfile"])
def either_way(request):
    if request.param == "no_tmpfile":
        request.getfixturevalue("no_tmpfile")


def written_to(path):
    with open(path, "r+b") as file:
        file.write(b"S")


def replaced_by_directory(path):
    os.unlink(path)
    os.makedirs(path + "/x")


def replaced_by_symlink(path):
    os.rename(path, path + "-x")
    os.symlink(path + "-x", path)


FAULTS = [
    written_to,
    replaced_by_directory,
    replaced_by_symlink,
    lambda path: os.truncate(path, 3),
    lambda path: os.chmod(path, 0o666),
    lambda path: os.utime(path, (5, 5)),
    pytest.param(lambda path: os.chown(path, 1234, -1), marks=pytest.mark.root),
]


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("damage", FAULTS)
def test_what_was_touched_is_denied_and_replaced(store, damage):
    ref = store.add_bytes(b"something", 0o644, 1700000000)
    damage(store.path(ref))
    assert not store.has(ref)
    assert store.add_bytes(b"something", 0o644, 1700000000) == ref
    assert store.has(ref)
    assert store.read(ref) == b"something"
    assert leftovers(store) == []


def test_links_and_reads_are_no_damage(store, tmp_path):
    ref = store.add_bytes(b"something", 0o644, 1700000000)
    os.link(store.path(ref), tmp_path / "link")
    os.unlink(tmp_path / "link")
    store.read(ref)
    assert store.has(ref)


def test_bytes_that_changed_under_the_same_inode_show_when_they_are_read(store):
    ref = store.add_bytes(b"something", 0o644, 1700000000)
    written_to(store.path(ref))
    os.utime(store.path(ref), (1700000000, 1700000000))
    assert store.has(ref)
    with pytest.raises(DamagedError, match=r"has been removed") as caught:
        store.read(ref)
    assert store.path(ref) in caught.value.message
    assert not store.has(ref)


@pytest.mark.parametrize("fault", ["symlink", "open to others"])
def test_a_directory_of_blobs_that_is_none_of_ours_is_removed(store, tmp_path, fault):
    ref = store.add_bytes(b"something")
    directory = os.path.dirname(store.path(ref))
    if fault == "symlink":
        os.rename(directory, tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", directory)
    else:
        os.chmod(directory, 0o777)
    again = BlobStore(store.root)
    assert not again.has(ref)
    again.add_bytes(b"something")
    assert again.has(ref)
    assert fault == "open to others" or os.listdir(tmp_path / "elsewhere")


def test_what_was_made_before_is_not_made_again(store, monkeypatch):
    there = BlobStore(store.root).add_bytes(b"there before", 0o644, 1)
    ref = store.add_bytes(b"something", 0o644, 1)
    store.add_bytes(b"there before", 0o644, 1)
    assert store.has_made(ref)
    assert not store.has_made(there)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", None)
        assert store.add_bytes(b"something", 0o644, 1) == ref
    # unless something has happened to it
    written_to(store.path(ref))
    assert store.add_bytes(b"something", 0o644, 1) == ref
    assert store.read(ref) == b"something"
    # another mtime is another inode
    assert store.add_bytes(b"something", 0o644, 2) != ref
    assert store.has(store.add_bytes(b"something", 0o644, 2))


def test_more_behind_what_a_blob_holds(store):
    ref = store.add_bytes(b"x" * 3_000_000, 0o600)
    for _ in range(2):
        longer = store.append(ref, b"more", 0o755, 7)
        assert store.read(longer) == b"x" * 3_000_000 + b"more"
        assert (longer.size, longer.mode, longer.mtime) == (3_000_004, 0o755, 7)
    written_to(store.path(ref))
    with pytest.raises(DamagedError):
        store.append(ref, b"something else")


def test_times_that_a_filesystem_cannot_hold(store):
    """xfs without bigtime and ext4 with small inodes end in 2038."""
    ref = store.add_bytes(b"late", 0o644, 4_000_000_000)
    os.utime(store.path(ref), ((1 << 31) - 1,) * 2)
    assert store.has(ref)
    os.utime(store.path(ref), (3_000_000_000,) * 2)
    assert not store.has(ref)


def test_what_is_not_committed_is_not_there(store):
    with pytest.raises(RuntimeError), store.writer() as writer:
        writer.write(b"half")
        raise RuntimeError
    with store.writer() as writer:
        writer.write(b"half")
    assert not store.has(BlobRef(digest=hashlib.sha256(b"half").hexdigest(), size=4, mode=0o644, mtime=0))
    assert os.listdir(store.root) == ["tmp"]
    assert leftovers(store) == []


@pytest.mark.usefixtures("no_tmpfile")
def test_without_o_tmpfile(store):
    ref = store.add_bytes(b"renamed", 0o755, 5)
    assert store.read(ref) == b"renamed"
    with pytest.raises(RuntimeError), store.writer() as writer:
        writer.write(b"half" * 100_000)
        assert len(leftovers(store)) == 1
        raise RuntimeError
    assert leftovers(store) == []


def test_leftovers_of_killed_writers_are_removed_but_not_what_is_being_written(store):
    for name in ("dead", "alive"):
        with open(f"{store.root}/tmp/{name}", "wb"):
            pass
    with open(f"{store.root}/tmp/alive", "rb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        BlobStore(store.root)
        assert leftovers(store) == ["alive"]


def test_a_descriptor_is_copied_from_its_beginning(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"0123456789" * 300_000)
    fd = os.open(source, os.O_RDONLY)
    try:
        os.lseek(fd, 77, os.SEEK_SET)
        ref = store.add_fd(fd, 0o4755, 9)
    finally:
        os.close(fd)
    assert ref == store.add_bytes(source.read_bytes(), 0o600, 9)
    assert os.stat(store.path(ref)).st_ino != source.stat().st_ino


def test_a_missing_blob_is_named(store):
    ref = BlobRef(digest="ab" * 32, size=0, mode=0o644, mtime=0)
    assert not store.has(ref)
    with pytest.raises(StorageError, match=r"ab/(ab){31}\.644\.0 is missing"):
        store.open(ref)


def test_a_symlink_is_no_blob(store):
    ref = store.add_bytes(b"root:x:0:0")
    os.rename(store.path(ref), store.root + "/elsewhere")
    os.symlink(store.root + "/elsewhere", store.path(ref))
    assert not store.has(ref)
    with pytest.raises(StorageError):
        store.read(ref)


def test_a_directory_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StorageError, match="mode 0777"):
        BlobStore(str(tmp_path / "open"))


def test_a_place_that_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        BlobStore(str(tmp_path / "file"))


def test_a_full_disk_is_a_storage_error(store, monkeypatch):
    def full(fd, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    for size in (1, 1 << 20):
        with pytest.raises(StorageError, match="No space left") as caught, store.writer() as writer:
            writer.write(b"x" * size)
            writer.commit()
        assert caught.value.hint is not None


def test_a_damaged_blob_is_replaced_while_another_process_begins(store, monkeypatch):
    """Who opens the store removes what nobody is writing."""
    ref = store.add_bytes(b"content", mtime=5)
    os.truncate(store.path(ref), 3)

    def replace(source, target):
        BlobStore(store.root)
        os.rename(source, target)

    monkeypatch.setattr(blobs, "replace", replace)
    assert BlobStore(store.root).add_bytes(b"content", mtime=5) == ref
    assert store.read(ref) == b"content"


def test_a_copy_that_cannot_be_read_back_is_a_storage_error(store, monkeypatch):
    """To hash it."""

    def failing(fd, size, offset):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", failing)
    source = os.open(__file__, os.O_RDONLY)
    try:
        with pytest.raises(StorageError, match="Input/output error"):
            store.add_fd(source, 0o644, 0)
    finally:
        os.close(source)
