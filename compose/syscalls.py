"""System calls for files that `os` lacks, with fallbacks for filesystems that do not support them."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE = 1  # linux/fs.h
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_SYS_OPENAT2 = 437  # on all architectures
_RESOLVE_IN_ROOT = 0x10  # linux/openat2.h


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open a path as if the open directory root were "/", also for symlinks and "..": openat2(RESOLVE_IN_ROOT). Raises
    OSError."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    while True:
        fd: int = _libc.syscall(_SYS_OPENAT2, root, os.fsencode(path), how, len(how))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        # EAGAIN: a concurrent rename while ".." was followed
        if number not in (errno.EAGAIN, errno.EINTR):
            raise OSError(number, os.strerror(number), path)


def syncfs(fd: int) -> None:
    """Flush the filesystem of fd: syncfs(2). Raises OSError."""
    if _libc.syncfs(fd) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def rename_noreplace(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> bool:
    """Rename by renameat2(RENAME_NOREPLACE); False if target exists. Raises OSError.

    If the filesystem does not support it, a file is linked and unlinked, and a directory is not moved: False.
    """
    if _libc.renameat2(src_dir_fd, os.fsencode(source), dst_dir_fd, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        return False
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), target)
    if stat.S_ISDIR(os.stat(source, dir_fd=src_dir_fd, follow_symlinks=False).st_mode):
        return False
    try:
        os.link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=False)
    except FileExistsError:
        return False
    os.unlink(source, dir_fd=src_dir_fd)
    return True


def exchange(one: str, other: str) -> None:
    """Swap two paths by renameat2(RENAME_EXCHANGE), or by three renames if the filesystem does not support it. Raises
    OSError."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), other)
    between = f"{one}.{os.urandom(6).hex()}"
    os.rename(other, between)
    os.rename(one, other)
    os.rename(between, one)
