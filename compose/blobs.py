"""Content-addressed store of file contents, below the cachedir.

    CACHEDIR/blobs/
        ab/cdef...62.755.1700000000    one inode: digest, permission bits, mtime; content never changes
        tmp/                           files being written, each locked by its writer; one that is not is a leftover

The mode and mtime are part of the name because a workroot hard-links these inodes, and programs look at both
(font caches, .pyc files, dracut). A blob appears under its name by link or rename, complete, or not at all.

Nothing is fsynced: the store is a cache. What a power failure cuts short has another size than its reference says, and
what was written to since has another mtime; `has()` denies both, and the next writer replaces them. Bytes that a failing
disk changed, or somebody who then set the mtime back, show only when they are hashed: read() does that, so does the
writer of an object that is new to its repository if the blob is of an earlier compose, and `compose cache verify` does it
for all.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from compose.errors import DamagedError, StorageError
from compose.fs import (
    chunks,
    clone_or_copy,
    holes,
    is_own_directory,
    remove_tree,
    replace,
    storage_error,
    storage_errors,
    write_all,
)
from compose.tree import BlobRef

# Bytes of a blob that are not in a file before it is known that there must be one.
_HELD = 64 << 10
_TMP = "tmp"
# What a filesystem with 32-bit times makes of later ones.
_LAST_MTIME = (1 << 31) - 1
# What open(O_TMPFILE) answers where the filesystem lacks it.
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})


def plain_mode(permissions: int) -> int:
    """Mode of the stored inode for a file with these permission bits (0..0o7777).

    The ordinary 0o644 and 0o755 are kept, so that a workroot can link the inode as it is; everything else (setuid,
    group-writable, private) is stored 0o600 and copied by whoever needs it with its true mode.
    """
    return permissions if permissions in (0o644, 0o755) else 0o600


class BlobStore:
    """The blobs below one directory. Safe to use from many threads and processes at once.

    It knows those that were made since it was opened, by it or by who told it: their bytes were hashed a moment ago. Raises
    StorageError when the directory cannot be made, belongs to somebody else or may be written by others.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        # by digest, which is enough to say no
        self._made: dict[str, set[BlobRef]] = {}
        self._owner = os.geteuid()
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            os.makedirs(os.path.join(self.root, _TMP), mode=0o700, exist_ok=True)
            status = os.stat(self.root)
            if not is_own_directory(status):
                raise StorageError(
                    f"{self.root} belongs to uid {status.st_uid} and has mode {stat.S_IMODE(status.st_mode):04o}: "
                    "its content cannot be trusted",
                    hint="use a cachedir of your own that nobody else may write to",
                )
            _remove_strangers(self.root)
            _remove_leftovers(os.path.join(self.root, _TMP))
        except OSError as error:
            raise storage_error(self.root, error) from error

    def path(self, ref: BlobRef) -> str:
        """Absolute path of the inode, whether it exists or not."""
        return f"{self.root}/{ref.digest[:2]}/{ref.digest[2:]}.{ref.mode:o}.{ref.mtime}"

    def has(self, ref: BlobRef) -> bool:
        """Whether the blob is there and whole, as far as its inode tells: a regular file of ours, nothing about it changed."""
        path = self.path(ref)
        try:
            return self._is_whole(os.lstat(path), ref)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(path, error) from error

    def has_made(self, ref: BlobRef) -> bool:
        """Was it made since the store was opened?"""
        made = self._made.get(ref.digest)
        return made is not None and ref in made

    def note_made(self, ref: BlobRef) -> None:
        """Somebody has just made it, and hashed it."""
        self._made.setdefault(ref.digest, set()).add(ref)

    def is_inode(self, ref: BlobRef, status: os.stat_result) -> bool:
        """Is what has this status the blob's own inode, whole? Raises StorageError."""
        try:
            own = os.lstat(self.path(ref))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(self.path(ref), error) from error
        return os.path.samestat(own, status) and self._is_whole(own, ref)

    def open(self, ref: BlobRef) -> int:
        """A descriptor open for reading, the caller's to close. Raises StorageError when the blob is missing."""
        path = self.path(ref)
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StorageError(
                f"the blob {path} is missing from the cache", hint="compose again: what is missing is imported anew"
            ) from error
        except OSError as error:
            raise storage_error(path, error) from error

    def read(self, ref: BlobRef) -> bytes:
        """The whole content. Raises StorageError when the blob is missing, DamagedError when it is not what it was."""
        with open(self.open(ref), "rb") as file:
            try:
                data = file.read()
            except OSError as error:
                raise storage_error(self.path(ref), error) from error
        if hashlib.sha256(data).hexdigest() != ref.digest:
            raise self.damaged(self.path(ref))
        return data

    def paths(self) -> Iterator[str]:
        """Absolute paths of all that is in the store, sorted."""
        for directory in sorted(os.listdir(self.root)):
            if directory != _TMP:
                below = os.path.join(self.root, directory)
                yield from (os.path.join(below, name) for name in sorted(os.listdir(below)))

    def is_sound(self, path: str) -> bool:
        """Does one of paths() hold what its name says? Reads all of it. Raises StorageError for what cannot be read."""
        directory, name = path.split("/")[-2:]
        try:
            digest, mode, mtime = name.split(".")
            status = os.lstat(path)
            ref = BlobRef(digest=directory + digest, size=status.st_size, mode=int(mode, 8), mtime=int(mtime))
            if not self._is_whole(status, ref):
                return False
            with open(self.open(ref), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == ref.digest
        except ValueError:
            return False
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise storage_error(path, error) from error

    def append(self, ref: BlobRef, more: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef:
        """A blob with what another holds and more behind that, in pieces: it may be large. Raises as read() does."""
        path = self.path(ref)
        with open(self.open(ref), "rb") as file, storage_errors(path):
            total = hashlib.file_digest(file, "sha256")
            if total.hexdigest() != ref.digest:
                raise self.damaged(path)
            total.update(more)
            whole = BlobRef(digest=total.hexdigest(), size=ref.size + len(more), mode=plain_mode(mode), mtime=mtime)
            if self.has(whole):
                return whole
            with self.writer(mode, mtime) as writer:
                for chunk in chunks(file.fileno()):
                    writer.write(chunk)
                writer.write(more)
                if writer.commit() != whole:
                    raise self.damaged(path)
                return whole

    def _is_whole(self, status: os.stat_result, ref: BlobRef) -> bool:
        mtime = status.st_mtime_ns
        return (
            status.st_size == ref.size
            and status.st_mode == stat.S_IFREG | ref.mode
            and (mtime == ref.mtime * 10**9 or mtime == min(ref.mtime, _LAST_MTIME) * 10**9)
            and status.st_uid == self._owner
        )

    def damaged(self, path: str) -> DamagedError:
        """What to raise for the blob at a path whose content is not what its name says; it is removed."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        return DamagedError(
            f"the blob {path} was damaged and is removed; is the disk failing?",
            hint="compose again: it is imported anew; compose cache verify looks at all others",
        )

    def writer(self, mode: int = 0o644, mtime: int = 0) -> BlobWriter:
        """Begin a blob. mode: permission bits, stored as plain_mode() has them. mtime: seconds since 1970."""
        return BlobWriter(self, plain_mode(mode), mtime)

    def add_bytes(self, data: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef:
        """Store bytes."""
        with self.writer(mode, mtime) as writer:
            writer.write(data)
            return writer.commit()

    def has_room_for(self, status: os.stat_result) -> bool:
        """Would what is missing in the holes of a file fit on this disk? A commit has it. Raises StorageError."""
        size = holes(status)
        return not size or self.has_room(size)

    def has_room(self, size: int) -> bool:
        """Would so many bytes fit on this disk? Raises StorageError."""
        with storage_errors(self.root):
            disk = os.statvfs(self.root)
        return size <= disk.f_bfree * disk.f_frsize

    def add_fd(self, fd: int, mode: int, mtime: int) -> BlobRef:
        """Store what a regular file holds, from its beginning; shares its extents where the filesystem can."""
        with self.writer(mode, mtime) as writer:
            writer.take(fd)
            return writer.commit()


class BlobWriter:
    """A blob being written: `write()` as often as needed, then `commit()`. Leaving the context before that, or by an
    exception, leaves nothing behind. Raises StorageError when the disk refuses.

    A small blob that its store has just made is not written at all: packages are full of files that are empty or alike, and a
    file that is made to be removed costs more than its bytes.
    """

    def __init__(self, store: BlobStore, mode: int, mtime: int) -> None:
        self._store = store
        self._root = store.root
        self._mode = mode
        self._mtime = mtime
        self._hash = hashlib.sha256()
        self._size = 0
        # what is not in a file yet
        self._held: list[bytes] = []
        # name below the root while the file has one; "" for an O_TMPFILE
        self._name = ""
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self._hash.update(data)
        self._size += len(data)
        if self._size <= _HELD:
            self._held.append(bytes(data))
            return
        try:
            write_all(self._file(), data)
        except OSError as error:
            raise storage_error(self._root, error) from error

    def take(self, fd: int) -> None:
        """Make an empty blob hold what the regular file `fd` holds."""
        try:
            own = self._file()
            clone_or_copy(fd, own)
        except OSError as error:
            raise storage_error(self._root, error) from error
        # the copy is hashed, not its source: that could be changed meanwhile
        for chunk in chunks(own):
            self._hash.update(chunk)
            self._size += len(chunk)

    def commit(self) -> BlobRef:
        """Give the blob its name. A blob of that name that is there already is as good."""
        ref = self._ref()
        if self._fd < 0 and self._store.has_made(ref) and self._store.has(ref):
            return ref
        path = self._store.path(ref)
        try:
            fd = self._file()
            os.fchmod(fd, self._mode)
            os.utime(fd, (self._mtime, self._mtime))
            try:
                new = self._give_name(path, ref)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                new = self._give_name(path, ref)
        except OSError as error:
            raise storage_error(path, error) from error
        finally:
            self.abort()
        if new:
            self._store.note_made(ref)
        return ref

    def abort(self) -> None:
        """Drop what was written; nothing to do after commit()."""
        self._held.clear()
        if self._name:
            os.unlink(self._name)
            self._name = ""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _file(self) -> int:
        """The file, made when first asked for, with what was held for it. Raises OSError."""
        if self._fd < 0:
            try:
                self._fd = os.open(f"{self._root}/{_TMP}", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
                self._name, self._fd = _locked_file(self._root)
            for piece in self._held:
                write_all(self._fd, piece)
            self._held.clear()
        return self._fd

    def _ref(self) -> BlobRef:
        return BlobRef(digest=self._hash.hexdigest(), size=self._size, mode=self._mode, mtime=self._mtime)

    def _give_name(self, path: str, ref: BlobRef) -> bool:
        """False when a blob of that name, and whole, was there."""
        if self._name:
            replace(self._name, path)
            self._name = ""
            return True
        try:
            _link_open_file(self._fd, path)
        except FileExistsError:
            if self._store.has(ref):
                return False
            # replaced in one step, for others may be reading the name; locked, or who opens the store takes it for a leftover
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            whole = _unused_name(self._root)
            _link_open_file(self._fd, whole)
            replace(whole, path)
        return True


def _unused_name(root: str) -> str:
    return f"{root}/{_TMP}/{secrets.token_hex(8)}"


def _locked_file(root: str) -> tuple[str, int]:
    while True:
        name = _unused_name(root)
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return name, fd
        # taken for a leftover before it was locked
        os.close(fd)


def _link_open_file(fd: int, path: str) -> None:
    # os.link() follows the /proc link only when it uses linkat(), which a directory descriptor makes it do;
    # an absolute path leaves the descriptor without effect.
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def _remove_strangers(root: str) -> None:
    """Remove what stands in the place of a directory and is none of ours: a way to elsewhere, or open to others."""
    with os.scandir(root) as entries:
        strangers = [each.path for each in entries if not is_own_directory(each.stat(follow_symlinks=False))]
    for path in strangers:
        remove_tree(path)


def _remove_leftovers(directory: str) -> None:
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(fd)
