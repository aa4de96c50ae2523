"""Which system calls look up a path, and a filter by which the kernel tells of them (seccomp(2))."""

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
"""What for: nothing but the entry, its bytes too, to become it, the names in it, to give a name, to be the root."""

OPENAT2 = 437
# System calls of x86_64 (asm/unistd_64.h) that look up a path: their first argument,
_PLAIN = {
    4: "stat", 6: "lstat", 21: "access", 80: "chdir", 83: "mkdir", 84: "rmdir", 87: "unlink", 89: "readlink",
    90: "chmod", 92: "chown", 94: "lchown", 132: "utime", 133: "mknod", 137: "statfs", 188: "setxattr",
    189: "lsetxattr", 191: "getxattr", 192: "lgetxattr", 194: "listxattr", 195: "llistxattr", 197: "removexattr",
    198: "lremovexattr", 235: "utimes",
}  # fmt: skip
# their second one in the directory that is the first,
_AT = {
    258: "mkdirat", 259: "mknodat", 260: "fchownat", 261: "futimesat", 262: "newfstatat", 263: "unlinkat",
    267: "readlinkat", 268: "fchmodat", 269: "faccessat", 280: "utimensat", 303: "name_to_handle_at", 332: "statx",
    439: "faccessat2", 452: "fchmodat2", 463: "setxattrat", 464: "getxattrat", 465: "listxattrat",
    466: "removexattrat",
}  # fmt: skip
# or (what for, argument of the directory or None, of the path).
CALLS: dict[int, tuple[tuple[int, int | None, int], ...]] = {
    **dict.fromkeys(_PLAIN, ((LOOK, None, 0),)),
    **dict.fromkeys(_AT, ((LOOK, 0, 1),)),
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
"""And link(): the first path has, or had, what the second is a name of from then on."""
RENAMEAT2, EXCHANGE = 316, 2
RUNS = frozenset(number for number, looks in CALLS.items() if looks[0][0] == RUN)
# They make other paths of the same names, or look up what cannot be seen here.
_LOSING = {
    134: "uselib", 155: "pivot_root", 165: "mount", 304: "open_by_handle_at", 308: "setns", 425: "io_uring_setup",
    428: "open_tree", 429: "move_mount", 442: "mount_setattr",
}  # fmt: skip
# What the kernel may have learned since, and calls of x32, which begin at 1 << 30.
_UNKNOWN_FROM = 467


def start() -> int | None:
    """Have the kernel tell of this process, and of all that it will start: a descriptor to hear it from, or None.

    Needs no_new_privs. Whoever has the descriptor must answer from now on: until then every look-up waits.
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
    for number in sorted((*CALLS, *_LOSING)):
        code += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", operation, yes, no, value) for operation, yes, no, value in code)
