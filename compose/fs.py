"""Files: atomic writes, safe removal of trees, cheap copies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import BinaryIO

from compose.errors import StorageError

_FICLONE = 0x40049409  # linux/fs.h
_MAX_DEPTH = 64
_UNFINISHED = re.compile(r".*\.[0-9a-f]{12}\.tmp")
"""Names under which files are written."""
_WRITTEN_WITHIN = 3600.0
"""Seconds after which a file that is being written is a leftover of a killed process: the largest take less than one."""
_KEPT_OF_NAME = 50
"""Characters of a file's name that its temporary name begins with."""
_BLOCK = 512
"""Unit of st_blocks in bytes, on all filesystems."""
FREE_SPACE = "free some space there and run it again; finished work is kept"
"""Hint for a full disk."""
FAILING = "see the kernel's log (dmesg) for errors of the disk, or use another place"
"""Hint for an I/O error."""
_NO_LOCKS = "use a filesystem that locks files; on NFS version 3, rpc.statd must run on this machine and on the server"
_ALMOST_FULL = 1 << 20  # bytes
CHUNK = 1 << 20
"""Bytes of a file that are read at once."""
_LARGE_HOLES = 64 << 20  # bytes
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_ERRORS = _FULL | {errno.EROFS, errno.EIO, errno.EFBIG, errno.ENOLCK}
"""Errors caused by the disk or its filesystem, not by permissions."""
_REFUSED = DISK_ERRORS | {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
# EPERM: seccomp filters of containers return it for unknown calls; if the file is not writable, write() fails too
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM})
NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
"""Errors of open(O_TMPFILE) on a filesystem without it."""


def storage_error(place: str, error: OSError) -> StorageError:
    """Return the error for a failed write, with a hint if there is a remedy. place: path, for the message."""
    hint = None
    if error.errno in _FULL:
        hint = FREE_SPACE
    elif error.errno == errno.EFBIG:
        hint = "raise the limit of file sizes (ulimit -f), or use a filesystem that allows larger files"
    elif error.errno in (errno.EIO, errno.ENOMEM):
        # ENOMEM: ext2 and ext4 return it if they cannot read a bitmap
        hint = FAILING
    elif error.errno == errno.ENOLCK:
        hint = _NO_LOCKS
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = "the place must be writable by the user who composes"
    return StorageError(f"cannot write {place}: {error.strerror}", hint=hint)


@contextmanager
def storage_errors(place: str) -> Iterator[None]:
    """Raise StorageError, naming place, for a full disk, an I/O error or a refused write in the block."""
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSED:
            raise storage_error(place, error) from error
        raise


@contextmanager
def read_errors(place: str, *, denied: str | None = None) -> Iterator[None]:
    """Raise StorageError for a failed read in the block, naming the file, or place if the error names none.

    denied: the hint for a file that may not be read. A process that cannot be started is not a failed read.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.EAGAIN, errno.ENOMEM):
            raise
        found = error.filename if isinstance(error.filename, str) else place
        hint = FAILING if error.errno == errno.EIO else denied if isinstance(error, PermissionError) else None
        raise StorageError(f"cannot read {found}: {error.strerror}", hint=hint) from error


def changed(path: str) -> StorageError:
    """The error for a file that somebody else writes to while it is read."""
    return StorageError(f"{path} changed while it was read", hint="run it again when nothing writes to that directory")


@contextmanager
def obstacles(place: str) -> Iterator[None]:
    """Raise StorageError, naming place, for a file where a directory must be, or the reverse, as in a damaged repository."""
    try:
        yield
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        hint = f"something else is at {error.filename2 or error.filename or place} or above it: remove it"
        raise StorageError(f"cannot write {place}: {error.strerror}", hint=hint) from error


def is_full(path: str) -> bool:
    """Is the filesystem of a path full, or almost full? Raises OSError."""
    status = os.statvfs(path)
    return free_bytes(status) < _ALMOST_FULL or (status.f_files > 0 and status.f_ffree == 0)


def free_bytes(status: os.statvfs_result) -> int:
    """Return how much this process can still write to a filesystem. Raises OSError."""
    # the host's root can use the reserved blocks too; to root of another user's namespace, /proc belongs to somebody else
    reserved = os.geteuid() == 0 and os.stat("/proc").st_uid == 0
    return (status.f_bfree if reserved else status.f_bavail) * status.f_frsize


def check_place(path: str) -> None:
    """Raise StorageError if a file cannot be written at a path, as far as can be known in advance."""
    # imported late, because it imports more modules than an unchanged compose has time for
    import tempfile

    try:
        if not path:
            raise FileNotFoundError(errno.ENOENT, "the name is empty")
        mode = stat.S_IFREG
        # fails for a name that is too long, too
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            # such as a device, which the new file would replace
            raise FileExistsError(errno.EEXIST, "it exists and is not a regular file")
        # finds out whether the directory is missing, full, another user's, read-only or immutable
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.abspath(path))) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise storage_error(path, error) from error


def check_directory(path: str) -> None:
    """Raise StorageError if a directory cannot be made or written at a path, as far as can be known in advance."""
    import tempfile  # late, as in check_place()

    there = os.path.abspath(path)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise storage_error(path, error) from error


def memory_file(name: str) -> BinaryIO:
    """Create a file in memory, for the output of a child process. name: is shown in /proc."""
    return os.fdopen(os.memfd_create(name, os.MFD_CLOEXEC), "w+b")


def atomic_write(path: str, data: bytes, mode: int = 0o644, *, fsync: bool = True, dir_fd: int | None = None) -> None:
    """Write a file under a temporary name, fsync it (unless fsync is False) and rename it to path. Raises StorageError, and
    OSError when too many files are open.

    dir_fd: directory that a relative path is relative to.
    """
    try:
        with _replacing(path, mode, dir_fd) as fd:
            write_all(fd, data)
            os.fchmod(fd, mode)
            if fsync:
                os.fsync(fd)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        raise storage_error(full_path(path, dir_fd), error) from error


@contextmanager
def _replacing(path: str, mode: int, dir_fd: int | None = None) -> Iterator[int]:
    """Open a new file, which replaces what is at path at the end, or is removed if the block raises. Raises OSError."""
    directory, name = os.path.split(path)
    # with all of the name, a long one would be too long
    temporary = os.path.join(directory, f"{name[:_KEPT_OF_NAME]}.{os.urandom(6).hex()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        try:
            yield fd
        finally:
            os.close(fd)
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise


def sync_directory(path: str, *, dir_fd: int | None = None) -> None:
    """Have the names in a directory on the disk: fsync(2). Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def full_path(path: str, dir_fd: int | None) -> str:
    """Return a path for messages. dir_fd: directory that it is relative to."""
    return path if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all data. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def slices(data: bytes) -> Iterator[memoryview]:
    """Split data into slices of at most CHUNK bytes, without copying."""
    view = memoryview(data)
    for place in range(0, len(data), CHUNK):
        yield view[place : place + CHUNK]


def is_own_directory(status: os.stat_result) -> bool:
    """Is it a directory of this user that others may not write to? status: from lstat(), so that symlinks do not count."""
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def walk(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (relative path, lstat) of a directory, whose path is "", and of everything below it, parents first. Raises
    OSError."""
    yield "", os.lstat(directory)
    pending = [""]
    while pending:
        above = pending.pop()
        with os.scandir(f"{directory}/{above}") as entries:
            for each in entries:
                path = f"{above}/{each.name}" if above else each.name
                status = each.stat(follow_symlinks=False)
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path)


def remove_tree(path: str) -> None:
    """Remove a file, or a directory and everything below it, if it exists. Symlinks are not followed. Raises OSError.

    Directories are made writable first, because packages ship some with mode 0555.
    """
    try:
        parent, name = os.path.split(os.path.abspath(path))
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_at(fd, name)
    finally:
        os.close(fd)


def remove_at(parent: int, name: str) -> None:
    """Like remove_tree(), for a name in an open directory."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as error:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise error
    top = _open_to_empty(parent, name)
    try:
        _empty(top, top, 0)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _open_to_empty(parent: int, name: str) -> int:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(fd).st_mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _empty(directory: int, top: int, depth: int) -> None:
    """Empty an open directory. Directories deeper than _MAX_DEPTH are moved to top first, because a program may have nested
    them deeper than there are descriptors."""
    while names := os.listdir(directory):
        for name in names:
            try:
                os.unlink(name, dir_fd=directory)
                continue
            except (IsADirectoryError, PermissionError) as error:
                if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                    raise error
            # first, because a directory that may not be written cannot be moved either
            below = _open_to_empty(directory, name)
            try:
                if depth == _MAX_DEPTH:
                    os.rename(name, os.urandom(16).hex(), src_dir_fd=directory, dst_dir_fd=top)
                    continue
                _empty(below, top, depth + 1)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=directory)


def clone(source: int, target: int) -> None:
    """Make the file target share all extents of source. Raises OSError if the filesystem does not support it."""
    fcntl.ioctl(target, _FICLONE, source)


def clone_or_copy(source: int, target: int) -> None:
    """Give the empty file target the content of source: share extents if the filesystem can, else copy, keeping holes. Raises
    OSError."""
    try:
        clone(source, target)
        return
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    status = os.fstat(source)
    if not holes(status):
        _copy(source, target, 0, sys.maxsize)
        return
    for begin, end in _data_ranges(source, status.st_size):
        _copy(source, target, begin, end)
    os.ftruncate(target, status.st_size)


def holes(status: os.stat_result) -> int:
    """Return how many bytes of a file are not allocated on disk."""
    return max(0, status.st_size - status.st_blocks * _BLOCK)


def _data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of the data between the holes of a file."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            # a hole up to the end
            if error.errno == errno.ENXIO:
                return
            if error.errno not in _UNSUPPORTED:
                raise
            # the filesystem does not report holes
            yield end, size
            return
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, end


def _copy(source: int, target: int, begin: int, end: int) -> None:
    """Copy a range of a file to the same offset, up to the end of the file."""
    offset = begin
    while offset < end:
        try:
            count = os.copy_file_range(source, target, min(1 << 30, end - offset), offset, offset)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            break
        if not count:
            return
        offset += count
    os.lseek(target, offset, os.SEEK_SET)
    while offset < end and (chunk := os.pread(source, min(CHUNK, end - offset), offset)):
        write_all(target, chunk)
        offset += len(chunk)


def open_regular(path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> BufferedReader:
    """Open a regular file for reading. Raises OSError, with EINVAL for what is not a regular file. Unlike open(), it does not
    wait for a fifo's writer."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags if follow_symlinks else flags | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return open(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def lock(fd: int, waiting: Callable[[], None]) -> None:
    """Take an exclusive flock(2) of an open file. waiting: called first if another process holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(fd, fcntl.LOCK_EX)


def chunks(fd: int, offset: int = 0, size: int = CHUNK) -> Iterator[bytes]:
    """Yield the content of a file from an offset on, in chunks of at most size bytes. Raises OSError.

    Large holes are not read, because the kernel would fill the page cache with zeros, which takes four times as long as hashing
    them (2 GiB: 9.3 s, 1.9 s without).
    """
    status = os.fstat(fd)
    if holes(status) >= _LARGE_HOLES:
        zeros = bytes(size)
        for begin, end in (*_data_ranges(fd, status.st_size), (status.st_size, status.st_size)):
            while offset < begin:
                yield zeros[: begin - offset]
                offset += min(size, begin - offset)
            while offset < end:
                chunk = os.pread(fd, min(size, end - offset), offset)
                if not chunk:
                    return
                yield chunk
                offset += len(chunk)
    while chunk := os.pread(fd, size, offset):
        yield chunk
        offset += len(chunk)


def copy_file(source: str, target: str) -> None:
    """Copy the regular file source to target, replacing it atomically, because others may be reading it. Raises OSError, as
    open_regular() does."""
    with open_regular(source) as origin, _replacing(target, 0o644) as copy:
        clone_or_copy(origin.fileno(), copy)


def remove_unfinished(directory: str, older: float = _WRITTEN_WITHIN, names: re.Pattern[str] = _UNFINISHED) -> None:
    """Remove what killed processes were writing to a directory. older: seconds since such a file was written to; by default
    others may be writing there, 0 if nobody is. names: of such files; by default those of atomic_write() and copy_file().
    Raises OSError."""
    for each in os.scandir(directory):
        if names.fullmatch(each.name):
            # its writer may rename it at this moment
            with contextlib.suppress(OSError):
                if time.time() - each.stat(follow_symlinks=False).st_mtime >= older:
                    os.unlink(each.path)


def replace(source: str, path: str) -> None:
    """Rename source to path, replacing what is there, even a directory with content. Raises OSError."""
    try:
        os.rename(source, path)
    except IsADirectoryError:
        remove_tree(path)
        os.rename(source, path)
