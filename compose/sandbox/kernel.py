"""System calls that `os` does not offer in Python 3.11, called through the C library."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_SYS_SECCOMP = {"x86_64": 317, "ppc64le": 358, "s390x": 348}.get(os.uname().machine, 277)  # asm/unistd_64.h
_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE_RECEIVED = 1 << 5
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h

# linux/capability.h: what scriptlets of an operating system's packages need. dac_read_search is not among them: with
# open_by_handle_at() it gives access to files outside the root.
KEPT_CAPABILITIES = {
    0: "chown",
    1: "dac_override",
    3: "fowner",
    4: "fsetid",
    5: "kill",
    6: "setgid",
    7: "setuid",
    8: "setpcap",
    18: "sys_chroot",
    31: "setfcap",
}
_LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def release() -> tuple[int, int]:
    """Version of the running kernel, (major, minor)."""
    major, minor = re.match(r"(\d+)\.(\d+)", os.uname().release).groups()  # type: ignore[union-attr]
    return int(major), int(minor)


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, os.fsencode(data) or None
    )
    _checked(result, f"mount {kind or source} on {target}")


def pivot_root(directory: str) -> None:
    """Make a mount point the root of this mount namespace (pivot_root(2)).

    The old root stays stacked on it, reachable through the current directory only, until detach_old_root(). Raises OSError.
    """
    os.chdir(directory)
    _checked(_libc.pivot_root(b".", b"."), f"pivot_root {directory}")


def detach_old_root() -> None:
    """Unmount the root from before pivot_root(); the current directory must not have changed since. Raises OSError."""
    _checked(_libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir("/")


def set_host_name(name: str) -> None:
    """sethostname(2). Raises OSError."""
    data = name.encode()
    _checked(_libc.sethostname(data, len(data)), "sethostname")


def enter_namespace(fd: int, kind: int) -> None:
    """setns(2). Raises OSError."""
    _checked(_libc.setns(fd, kind), "setns")


def die_with_parent(signal: int) -> None:
    """Have the kernel send this process a signal when the thread that forked it ends. Raises OSError."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def adopt_orphans() -> None:
    """Have descendants whose parent ends become children of this process (PR_SET_CHILD_SUBREAPER). Raises OSError."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def hide_from_others() -> None:
    """Hide this process's memory, descriptors, root and executable from processes without CAP_SYS_PTRACE, until it execs."""
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def forbid_new_privileges() -> None:
    """Set no_new_privs: no exec gains privileges by setuid or file capabilities from here on. Raises OSError."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def filter_system_calls(program: bytes) -> None:
    """Install a seccomp filter, an array of struct sock_filter, for this process and its descendants.

    Needs no_new_privs. Raises OSError.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(instructions)))
    result = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header), 0, 0)
    _checked(result, "prctl(PR_SET_SECCOMP)")


def notify_system_calls(program: bytes) -> int:
    """Install a seccomp filter as filter_system_calls() does; return the listener for its user notifications.

    Raises OSError.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(instructions)))
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE_RECEIVED, _NEW_LISTENER):
        fd: int = _libc.syscall(_SYS_SECCOMP, _SET_MODE_FILTER, flags, header)
        # WAIT_KILLABLE_RECV is new in Linux 5.19
        if fd >= 0 or ctypes.get_errno() != errno.EINVAL:
            break
    _checked(fd, "seccomp")
    return fd


def drop_capabilities() -> None:
    """Drop all but KEPT_CAPABILITIES, for this process and everything it will ever run. Raises OSError."""
    for number in range(_LAST_CAPABILITY + 1):
        if number not in KEPT_CAPABILITIES and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break  # past this kernel's last capability
    kept = sum(1 << number for number in KEPT_CAPABILITIES)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("IIIIII", low, low, 0, high, high, 0)
    _checked(_libc.capset(header, data), "capset")
