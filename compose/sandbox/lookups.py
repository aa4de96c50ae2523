"""The system calls that look up a path, and a seccomp(2) filter that has the kernel report them."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from compose.sandbox import kernel, machines

# The native binary format of each machine, and its column in NUMBERS.
MACHINES = {
    "x86_64": (machines.X86_64, 0),
    "aarch64": (machines.AARCH64, 1),
    "riscv64": (machines.RISCV64, 1),
    "ppc64le": (machines.PPC64LE, 2),
    "s390x": (machines.S390X, 3),
}

# linux/seccomp.h
_NOTIFY = 0x7FC00000
_ALLOW = 0x7FFF0000

# linux/bpf_common.h; offsets in struct seccomp_data
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCH = 0, 4

LOOK, READ, RUN, LIST, LINK, ROOT = range(6)
"""Kinds of lookups: of an entry alone, with its contents, to execute, to list, to create a symlink, to chroot."""

# System calls that look up a path: their first argument,
_PATH_FIRST = (
    *("stat", "lstat", "access", "chdir", "mkdir", "rmdir", "unlink", "readlink", "chmod", "chown", "lchown", "utime"),
    *("utimes", "mknod", "statfs", "statfs64", "setxattr", "lsetxattr", "getxattr", "lgetxattr", "listxattr"),
    *("llistxattr", "removexattr", "lremovexattr"),
)
# their second one, relative to the directory in the first,
_PATH_AT = (
    *("mkdirat", "mknodat", "fchownat", "futimesat", "newfstatat", "unlinkat", "readlinkat", "fchmodat", "faccessat"),
    *("utimensat", "name_to_handle_at", "statx", "faccessat2", "fchmodat2", "setxattrat", "getxattrat", "listxattrat"),
    *("removexattrat", "file_getattr", "file_setattr"),
)
# or (kind, index of the directory's argument or None, index of the path's) for each path.
CALLS: dict[str, tuple[tuple[int, int | None, int], ...]] = {
    **dict.fromkeys(_PATH_FIRST, ((LOOK, None, 0),)),
    **dict.fromkeys(_PATH_AT, ((LOOK, 0, 1),)),
    "open": ((READ, None, 0),),
    "creat": ((READ, None, 0),),
    "truncate": ((READ, None, 0),),
    "openat": ((READ, 0, 1),),
    "openat2": ((READ, 0, 1),),
    "execve": ((RUN, None, 0),),
    "execveat": ((RUN, 0, 1),),
    "getdents": ((LIST, 0, 0),),
    "getdents64": ((LIST, 0, 0),),
    "readdir": ((LIST, 0, 0),),
    "rename": ((LOOK, None, 0), (LOOK, None, 1)),
    "renameat": ((LOOK, 0, 1), (LOOK, 2, 3)),
    "renameat2": ((LOOK, 0, 1), (LOOK, 2, 3)),
    "link": ((READ, None, 0), (LOOK, None, 1)),
    "linkat": ((READ, 0, 1), (LOOK, 2, 3)),
    "symlink": ((LINK, None, 1),),
    "symlinkat": ((LINK, 1, 2),),
    "chroot": ((ROOT, None, 0),),
    "inotify_add_watch": ((LOOK, None, 1),),
    "fanotify_mark": ((LOOK, 3, 4),),
}
SYMLINKS = frozenset({"symlink", "symlinkat"})
RENAMES = frozenset({"rename", "renameat", "renameat2", "link", "linkat"})
"""Including link(): afterwards the second path names what the first named."""
EXCHANGE = 2
RUNS = frozenset({"execve", "execveat"})
# These change what paths mean, or look up files in ways that cannot be observed.
UNTRACEABLE = frozenset(
    {
        *(
            "uselib",
            "pivot_root",
            "mount",
            "open_by_handle_at",
            "setns",
            "io_uring_setup",
            "open_tree",
            "open_tree_attr",
        ),
        *("move_mount", "mount_setattr"),
    }
)
_UNKNOWN_FROM = 470
"""Newer system calls, and those of x32, which begin at 1 << 30."""

# On x86_64, aarch64 and riscv64, ppc64, s390x (asm/unistd_64.h); None where there is no such call.
NUMBERS: dict[str, tuple[int | None, int | None, int | None, int | None]] = {
    "stat": (4, None, 106, 106), "lstat": (6, None, 107, 107), "access": (21, None, 33, 33),
    "chdir": (80, 49, 12, 12), "mkdir": (83, None, 39, 39), "rmdir": (84, None, 40, 40),
    "unlink": (87, None, 10, 10), "readlink": (89, None, 85, 85), "chmod": (90, None, 15, 15),
    "chown": (92, None, 181, 212), "lchown": (94, None, 16, 198), "utime": (132, None, 30, 30),
    "utimes": (235, None, 251, 313), "mknod": (133, None, 14, 14), "statfs": (137, 43, 99, 99),
    "statfs64": (None, None, 252, 265), "setxattr": (188, 5, 209, 224), "lsetxattr": (189, 6, 210, 225),
    "getxattr": (191, 8, 212, 227), "lgetxattr": (192, 9, 213, 228), "listxattr": (194, 11, 215, 230),
    "llistxattr": (195, 12, 216, 231), "removexattr": (197, 14, 218, 233), "lremovexattr": (198, 15, 219, 234),
    "mkdirat": (258, 34, 287, 289), "mknodat": (259, 33, 288, 290), "fchownat": (260, 54, 289, 291),
    "futimesat": (261, None, 290, 292), "newfstatat": (262, 79, 291, 293), "unlinkat": (263, 35, 292, 294),
    "readlinkat": (267, 78, 296, 298), "fchmodat": (268, 53, 297, 299), "faccessat": (269, 48, 298, 300),
    "utimensat": (280, 88, 304, 315), "name_to_handle_at": (303, 264, 345, 335), "statx": (332, 291, 383, 379),
    "faccessat2": (439, 439, 439, 439), "fchmodat2": (452, 452, 452, 452), "setxattrat": (463, 463, 463, 463),
    "getxattrat": (464, 464, 464, 464), "listxattrat": (465, 465, 465, 465), "removexattrat": (466, 466, 466, 466),
    "file_getattr": (468, 468, 468, 468), "file_setattr": (469, 469, 469, 469), "open": (2, None, 5, 5),
    "creat": (85, None, 8, 8), "truncate": (76, 45, 92, 92), "openat": (257, 56, 286, 288),
    "openat2": (437, 437, 437, 437), "execve": (59, 221, 11, 11), "execveat": (322, 281, 362, 354),
    "getdents": (78, None, 141, 141), "getdents64": (217, 61, 202, 220), "readdir": (None, None, 89, 89),
    "rename": (82, None, 38, 38), "renameat": (264, 38, 293, 295), "renameat2": (316, 276, 357, 347),
    "link": (86, None, 9, 9), "linkat": (265, 37, 294, 296), "symlink": (88, None, 83, 83),
    "symlinkat": (266, 36, 295, 297), "chroot": (161, 51, 61, 61), "inotify_add_watch": (254, 27, 276, 285),
    "fanotify_mark": (301, 263, 324, 333), "uselib": (134, None, 86, 86), "pivot_root": (155, 41, 203, 217),
    "mount": (165, 40, 21, 21), "open_by_handle_at": (304, 265, 346, 336), "setns": (308, 268, 350, 339),
    "io_uring_setup": (425, 425, 425, 425), "open_tree": (428, 428, 428, 428),
    "open_tree_attr": (467, 467, 467, 467), "move_mount": (429, 429, 429, 429),
    "mount_setattr": (442, 442, 442, 442),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Abi:
    """How native programs of a machine call the kernel.

    arch: AUDIT_ARCH_*. names: the calls of NUMBERS by their numbers. address_bits: higher bits of an address may be a tag.
    """

    arch: int
    names: Mapping[int, str]
    address_bits: int


@cache
def abi_of(machine: str) -> Abi | None:
    """machine: as by uname(2). None if the numbers of its system calls are unknown."""
    if machine not in MACHINES:
        return None
    arch, column = MACHINES[machine]
    found = ((numbers[column], name) for name, numbers in NUMBERS.items())
    # Documentation/arch/arm64/tagged-address-abi.rst in the kernel's sources
    bits = 56 if machine == "aarch64" else 64
    return Abi(arch=arch, names={number: name for number, name in found if number is not None}, address_bits=bits)


def start() -> int | None:
    """Have the kernel report the lookups of this process and its descendants; return the listener, None if unsupported.

    Needs no_new_privs. Every lookup from now on blocks until the holder of the listener answers it.
    """
    abi = abi_of(os.uname().machine)
    if abi is None:
        return None
    try:
        return kernel.notify_system_calls(_filter(abi))
    except OSError:
        return None


def _filter(abi: Abi) -> bytes:
    code = [(_LOAD, 0, 0, _ARCH), (_IF_EQUAL, 1, 0, abi.arch), (_RETURN, 0, 0, _NOTIFY), (_LOAD, 0, 0, _NUMBER)]
    code.append((_IF_AT_LEAST, 0, 1, _UNKNOWN_FROM))
    code.append((_RETURN, 0, 0, _NOTIFY))
    for number in sorted(abi.names):
        code += [(_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", operation, yes, no, value) for operation, yes, no, value in code)
