"""The system calls that look up a path, and a seccomp(2) filter that has the kernel report them."""

from __future__ import annotations

import os
import struct

from compose.sandbox import kernel

X86_64 = 0xC000003E  # AUDIT_ARCH_X86_64, linux/audit.h

# linux/seccomp.h
_NOTIFY = 0x7FC00000
_ALLOW = 0x7FFF0000

# linux/bpf_common.h; offsets in struct seccomp_data
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCH = 0, 4

LOOK, READ, RUN, LIST, LINK, ROOT = range(6)
"""Kinds of lookups: of an entry alone, with its contents, to execute, to list, to create a symlink, to chroot."""

OPENAT2 = 437
# System calls of x86_64 (asm/unistd_64.h) that look up a path: their first argument,
_PATH_FIRST = {
    4: "stat", 6: "lstat", 21: "access", 80: "chdir", 83: "mkdir", 84: "rmdir", 87: "unlink", 89: "readlink",
    90: "chmod", 92: "chown", 94: "lchown", 132: "utime", 133: "mknod", 137: "statfs", 188: "setxattr",
    189: "lsetxattr", 191: "getxattr", 192: "lgetxattr", 194: "listxattr", 195: "llistxattr", 197: "removexattr",
    198: "lremovexattr", 235: "utimes",
}  # fmt: skip
# their second one, relative to the directory in the first,
_PATH_AT = {
    258: "mkdirat", 259: "mknodat", 260: "fchownat", 261: "futimesat", 262: "newfstatat", 263: "unlinkat",
    267: "readlinkat", 268: "fchmodat", 269: "faccessat", 280: "utimensat", 303: "name_to_handle_at", 332: "statx",
    439: "faccessat2", 452: "fchmodat2", 463: "setxattrat", 464: "getxattrat", 465: "listxattrat",
    466: "removexattrat",
}  # fmt: skip
# or (kind, index of the directory's argument or None, index of the path's) for each path.
CALLS: dict[int, tuple[tuple[int, int | None, int], ...]] = {
    **dict.fromkeys(_PATH_FIRST, ((LOOK, None, 0),)),
    **dict.fromkeys(_PATH_AT, ((LOOK, 0, 1),)),
    2: ((READ, None, 0),),  # open
    59: ((RUN, None, 0),),  # execve
    76: ((READ, None, 0),),  # truncate
    78: ((LIST, 0, 0),),  # getdents
    82: ((LOOK, None, 0), (LOOK, None, 1)),  # rename
    85: ((READ, None, 0),),  # creat
    86: ((READ, None, 0), (LOOK, None, 1)),  # link
    88: ((LINK, None, 1),),  # symlink
    161: ((ROOT, None, 0),),  # chroot
    217: ((LIST, 0, 0),),  # getdents64
    254: ((LOOK, None, 1),),  # inotify_add_watch
    257: ((READ, 0, 1),),  # openat
    264: ((LOOK, 0, 1), (LOOK, 2, 3)),  # renameat
    265: ((READ, 0, 1), (LOOK, 2, 3)),  # linkat
    266: ((LINK, 1, 2),),  # symlinkat
    316: ((LOOK, 0, 1), (LOOK, 2, 3)),  # renameat2
    322: ((RUN, 0, 1),),  # execveat
    OPENAT2: ((READ, 0, 1),),
}
SYMLINKS = frozenset({88, 266})
RENAMES = frozenset({82, 86, 264, 265, 316})
"""Including link(): afterwards the second path names what the first named."""
RENAMEAT2, EXCHANGE = 316, 2
RUNS = frozenset(number for number, lookups in CALLS.items() if lookups[0][0] == RUN)
# These change what paths mean, or look up files in ways that cannot be observed.
_UNTRACEABLE = {
    134: "uselib", 155: "pivot_root", 165: "mount", 304: "open_by_handle_at", 308: "setns", 425: "io_uring_setup",
    428: "open_tree", 429: "move_mount", 442: "mount_setattr",
}  # fmt: skip
# Newer system calls, and those of x32, which begin at 1 << 30.
_UNKNOWN_FROM = 467


def start() -> int | None:
    """Have the kernel report the lookups of this process and its descendants; return the listener, None if unsupported.

    Needs no_new_privs. Every lookup from now on blocks until the holder of the listener answers it.
    """
    if os.uname().machine != "x86_64":
        return None
    try:
        return kernel.notify_system_calls(_filter())
    except OSError:
        return None


def _filter() -> bytes:
    code = [(_LOAD, 0, 0, _ARCH), (_IF_EQUAL, 1, 0, X86_64), (_RETURN, 0, 0, _NOTIFY), (_LOAD, 0, 0, _NUMBER)]
    code.append((_IF_AT_LEAST, 0, 1, _UNKNOWN_FROM))
    code.append((_RETURN, 0, 0, _NOTIFY))
    for number in sorted((*CALLS, *_UNTRACEABLE)):
        code += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", operation, yes, no, value) for operation, yes, no, value in code)
