"""Content-addressed store of file contents, below the cachedir.

    CACHEDIR/blobs/
        ab/cdef...62.755.1700000000    one inode: digest, permission bits, mtime; its content never changes
        tmp/                           files being written, each locked by its writer; unlocked ones are leftovers

The mode and mtime are part of the name because workroots hard-link these inodes, and programs look at both (font caches,
.pyc files, dracut). A blob gets its name by link or rename, when it is complete.

Nothing is fsynced, because the store is a cache. A blob truncated by a power failure has the wrong size, and one that was
modified has the wrong mtime; `has()` returns False for both, and the next writer replaces them. Corruption by a failing disk,
and changes after which the mtime was reset, are found only by hashing: by read(), when a new object of a repository is written
from a blob of an earlier compose, and by `compose cache verify`.

A file elsewhere can be borrowed: it is read where it lies, and not copied. Others may write to it: objects of a repository are
made from it only if its content still has its digest, and whoever else opens it notices a change of size or mtime.
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
    NO_TMPFILE,
    changed,
    chunks,
    clone_or_copy,
    free_bytes,
    holes,
    is_own_directory,
    open_regular,
    remove_tree,
    replace,
    storage_error,
    storage_errors,
    write_all,
)
from compose.tree import BlobRef

# blobs of up to so many bytes are buffered until commit()
_BUFFERED = 64 << 10
_TMP = "tmp"
# filesystems with 32-bit times clamp later ones to this
_LAST_MTIME = (1 << 31) - 1
# errors of open() where another kind of file is now
_REPLACED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


def plain_mode(permissions: int) -> int:
    """Return the mode of the stored inode for a file with these permission bits (0..0o7777).

    0o644 and 0o755 are kept, so that a workroot can link the inode. Files with other modes (setuid, group-writable, private)
    are stored as 0o600, and copied where they are needed with their true mode.
    """
    return permissions if permissions in (0o644, 0o755) else 0o600


class BlobStore:
    """The blobs below one directory. Safe for concurrent use by threads and processes.

    Remembers the blobs created since it was opened (has_made()), which need not be hashed again. Raises StorageError if the
    directory cannot be created, belongs to another user or is writable by others.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        # by digest: looking up a string is faster than hashing a BlobRef
        self._made: dict[str, set[BlobRef]] = {}
        self._borrowed: dict[BlobRef, str] = {}
        self._owner = os.geteuid()
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            os.makedirs(os.path.join(self.root, _TMP), mode=0o700, exist_ok=True)
            status = os.stat(self.root)
            if not is_own_directory(status):
                raise StorageError(
                    f"{self.root} belongs to uid {status.st_uid} and has mode {stat.S_IMODE(status.st_mode):04o}: "
                    "its content cannot be trusted",
                    hint="use a cachedir that only you can write to",
                )
            _remove_untrusted(self.root)
            _remove_leftovers(os.path.join(self.root, _TMP))
        except OSError as error:
            raise storage_error(self.root, error) from error

    def path(self, ref: BlobRef) -> str:
        """Return the absolute path of a blob's inode, which need not exist."""
        return f"{self.root}/{ref.digest[:2]}/{ref.digest[2:]}.{ref.mode:o}.{ref.mtime}"

    def borrow(self, ref: BlobRef, path: str) -> None:
        """Read a blob's content from a file elsewhere. path: of that file, which nobody should write to as long as the store is
        used. has() does not count it, and it is never removed."""
        self._borrowed.setdefault(ref, path)

    def keep(self, ref: BlobRef) -> None:
        """Copy a blob that is borrowed into the store, unless it is there. Raises as read() does."""
        if ref in self._borrowed and not self.has(ref):
            self.append(ref, b"", ref.mode, ref.mtime)

    def source(self, ref: BlobRef) -> str:
        """Return the path of a file with a blob's content: a borrowed one, or path(). A blob that has_made() need not be hashed
        again, so that it is never a borrowed one."""
        borrowed = None if self.has_made(ref) else self._borrowed.get(ref)
        return borrowed or self.path(ref)

    def has(self, ref: BlobRef) -> bool:
        """Does the blob exist, with the size, mode, mtime and owner it was stored with? Raises StorageError."""
        path = self.path(ref)
        try:
            return self._is_whole(os.lstat(path), ref)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(path, error) from error

    def has_made(self, ref: BlobRef) -> bool:
        """Was the blob created since the store was opened?"""
        made = self._made.get(ref.digest)
        return made is not None and ref in made

    def note_made(self, ref: BlobRef) -> None:
        """Record that a blob was just created and hashed, by this or another process."""
        self._made.setdefault(ref.digest, set()).add(ref)

    def is_inode(self, ref: BlobRef, status: os.stat_result) -> bool:
        """Is status that of the blob's own inode, as in has()? Raises StorageError."""
        try:
            own = os.lstat(self.path(ref))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(self.path(ref), error) from error
        return os.path.samestat(own, status) and self._is_whole(own, ref)

    def open(self, ref: BlobRef) -> int:
        """Open a blob for reading; the caller closes the descriptor. Raises StorageError if the blob is missing, or if it is
        borrowed and not what it was when it was hashed, as far as its size and mtime show."""
        path = self.source(ref)
        borrowed = path != self.path(ref)
        try:
            # O_NONBLOCK: do not wait for the writer of a fifo in the place of a borrowed file
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if borrowed and error.errno in _REPLACED:
                raise changed(path) from error
            if not isinstance(error, FileNotFoundError):
                raise storage_error(path, error) from error
            raise StorageError(
                f"the blob {path} is missing from the cache", hint="compose again: missing blobs are imported again"
            ) from error
        if borrowed:
            status = os.fstat(fd)
            if (stat.S_IFMT(status.st_mode), status.st_size, int(status.st_mtime)) != (
                stat.S_IFREG,
                ref.size,
                ref.mtime,
            ):
                os.close(fd)
                raise changed(path)
        return fd

    def read(self, ref: BlobRef) -> bytes:
        """Return the content of a blob. Raises StorageError if it is missing, damaged() if it does not have its digest."""
        path = self.source(ref)
        with open(self.open(ref), "rb") as file:
            try:
                data = file.read()
            except OSError as error:
                raise storage_error(path, error) from error
        if hashlib.sha256(data).hexdigest() != ref.digest:
            raise self.damaged(path)
        return data

    def paths(self) -> Iterator[str]:
        """Absolute paths of all blobs, sorted. Raises OSError."""
        for directory in sorted(os.listdir(self.root)):
            if directory != _TMP:
                below = os.path.join(self.root, directory)
                yield from (os.path.join(below, name) for name in sorted(os.listdir(below)))

    def is_sound(self, path: str) -> bool:
        """Does one of paths() match its name? Hashes the content. Raises StorageError if it exists and cannot be read."""
        directory, name = path.split("/")[-2:]
        try:
            digest, mode, mtime = name.split(".")
            with open_regular(path, follow_symlinks=False) as file:
                status = os.fstat(file.fileno())
                ref = BlobRef(digest=directory + digest, size=status.st_size, mode=int(mode, 8), mtime=int(mtime))
                return self._is_whole(status, ref) and hashlib.file_digest(file, "sha256").hexdigest() == ref.digest
        except ValueError:
            return False
        except OSError as error:
            # EINVAL, EISDIR, ELOOP: not a regular file
            if error.errno in (errno.EIO, errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ELOOP):
                return False
            raise storage_error(path, error) from error

    def append(self, ref: BlobRef, more: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef:
        """Store a blob's content followed by more; it is read in chunks, for it may be large. Raises as read() does."""
        path = self.source(ref)
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

    def damaged(self, path: str) -> StorageError:
        """Return the error to raise for a source() that does not have its digest: DamagedError for a blob, which is removed."""
        if path in self._borrowed.values():
            return changed(path)
        with suppress(FileNotFoundError):
            os.unlink(path)
        return DamagedError(
            f"the blob {path} was damaged and has been removed; is the disk failing?",
            hint="compose again: it is imported again; compose cache verify checks all others",
        )

    def writer(self, mode: int = 0o644, mtime: int = 0) -> BlobWriter:
        """Begin a blob. mode: permission bits, of which plain_mode() is stored. mtime: seconds since 1970."""
        return BlobWriter(self, plain_mode(mode), mtime)

    def add_bytes(self, data: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef:
        """Store data. Raises StorageError."""
        with self.writer(mode, mtime) as writer:
            writer.write(data)
            return writer.commit()

    def has_room_for(self, status: os.stat_result) -> bool:
        """Would the holes of a file fit on this disk when filled, as a commit has them? Raises StorageError."""
        size = holes(status)
        return not size or self.has_room(size)

    def has_room(self, size: int) -> bool:
        """Would size bytes fit on this disk? Raises StorageError."""
        with storage_errors(self.root):
            return size <= free_bytes(os.statvfs(self.root))

    def add_fd(self, fd: int, mode: int, mtime: int) -> BlobRef:
        """Store the content of an open regular file, sharing extents if the filesystem can. Raises StorageError."""
        with self.writer(mode, mtime) as writer:
            writer.take(fd)
            return writer.commit()


class BlobWriter:
    """A blob being written: write() any number of times, then commit(). Leaving the context without commit() discards it.
    All methods raise StorageError if the disk refuses.

    A small blob that the store has created before is not written: packages have many empty or identical files, and creating
    a file only to remove it costs more than its content.
    """

    def __init__(self, store: BlobStore, mode: int, mtime: int) -> None:
        self._store = store
        self._root = store.root
        self._mode = mode
        self._mtime = mtime
        self._hash = hashlib.sha256()
        self._size = 0
        self._buffer: list[bytes] = []
        # temporary path of the file; "" for an O_TMPFILE
        self._name = ""
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, data: bytes | memoryview) -> None:
        """Append data."""
        self._hash.update(data)
        self._size += len(data)
        if self._size <= _BUFFERED:
            self._buffer.append(bytes(data))
            return
        try:
            write_all(self._file(), data)
        except OSError as error:
            raise storage_error(self._root, error) from error

    def take(self, fd: int) -> None:
        """Copy the content of the regular file fd into the blob, which must be empty."""
        try:
            own = self._file()
            clone_or_copy(fd, own)
            # hash the copy, because the source may change meanwhile
            for chunk in chunks(own):
                self._hash.update(chunk)
                self._size += len(chunk)
        except OSError as error:
            raise storage_error(self._root, error) from error

    def commit(self) -> BlobRef:
        """Give the blob its name, unless the store has it already."""
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
        """Discard the blob; no effect after commit()."""
        self._buffer.clear()
        if self._name:
            os.unlink(self._name)
            self._name = ""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _file(self) -> int:
        """Return the file, which is created on first use from the buffer. Raises OSError."""
        if self._fd < 0:
            try:
                self._fd = os.open(f"{self._root}/{_TMP}", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno not in NO_TMPFILE:
                    raise
                self._name, self._fd = _locked_file(self._root)
            for piece in self._buffer:
                write_all(self._fd, piece)
            self._buffer.clear()
        return self._fd

    def _ref(self) -> BlobRef:
        return BlobRef(digest=self._hash.hexdigest(), size=self._size, mode=self._mode, mtime=self._mtime)

    def _give_name(self, path: str, ref: BlobRef) -> bool:
        """Link or rename the file to its path; False if the store has the blob already."""
        if self._name:
            replace(self._name, path)
            self._name = ""
            return True
        try:
            _link_open_file(self._fd, path)
        except FileExistsError:
            if self._store.has(ref):
                return False
            # replaced atomically, for others may be reading it; locked, or another process removes it as a leftover
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            temporary = _unused_name(self._root)
            _link_open_file(self._fd, temporary)
            replace(temporary, path)
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
        # removed as a leftover before it was locked
        os.close(fd)


def _link_open_file(fd: int, path: str) -> None:
    # os.link() follows the link in /proc only if it calls linkat(), which it does when given a directory descriptor;
    # the path is absolute, so the descriptor has no effect
    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def _remove_untrusted(root: str) -> None:
    """Remove everything that is not a directory of this user: symlinks, and directories that others may write to."""
    with os.scandir(root) as entries:
        untrusted = [each.path for each in entries if not is_own_directory(each.stat(follow_symlinks=False))]
    for path in untrusted:
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
