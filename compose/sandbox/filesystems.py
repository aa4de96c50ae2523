"""The sandbox's own mounts: /dev, /proc, /sys, /run, /tmp and /var/tmp.

They are mounted by absolute path after pivot_root, so that symlinks of the tree, which may be hostile, cannot lead out of
it. The host's device nodes are bind-mounted from descriptors opened before.
"""

from __future__ import annotations

import os
import stat

from compose.sandbox import kernel

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
# Including /dev/shm, their sizes add up to less than the machine's memory. dracut builds its image in /var/tmp.
_PRIVATE = (("/run", "mode=0755,size=5%"), ("/tmp", "mode=1777,size=20%"), ("/var/tmp", "mode=1777,size=50%"))
# These describe the host: a script that copies the kernel command line or keys must find none.
_HIDDEN = (
    "/proc/cmdline",
    "/proc/bootconfig",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kallsyms",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/latency_stats",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/proc/driver",
    # otherwise a host in FIPS mode would compose images with the FIPS crypto-policy
    "/proc/sys/crypto/fips_enabled",
)
_API = kernel.MS_NOSUID | kernel.MS_NOEXEC
_LOCKED = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | _API
PROCESS_LIMIT = 4096
"""Maximum number of processes and threads of a program at a time."""


def open_devices() -> dict[str, int]:
    """Open the host's device nodes: name to descriptor. Call before pivot_root."""
    return {name: os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in _DEVICES}


def mount_all(devices: dict[str, int]) -> None:
    """Mount everything in the new root, and close the descriptors from open_devices(). Raises OSError."""
    for path in ("/dev", "/proc", "/sys"):
        if not _is_directory(path):
            raise NotADirectoryError(20, f"{path} in the tree is not a directory")
    kernel.mount("proc", "/proc", "proc", _API | kernel.MS_NODEV)
    _limit_processes()
    _mount_dev(devices)
    kernel.mount("tmpfs", "/sys", "tmpfs", _API | kernel.MS_NODEV | kernel.MS_RDONLY, "mode=0555,size=4k")
    _restrict_proc()
    for path, options in _PRIVATE:
        if _is_directory(path):
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    if _is_directory("/run"):
        os.mkdir("/run/lock")
        # tells scriptlets that they run in an image build, as under rpm-ostree
        _touch("/run/ostree-booted", 0o644)


def _mount_dev(devices: dict[str, int]) -> None:
    kernel.mount("tmpfs", "/dev", "tmpfs", _API, "mode=0755,size=64k")
    for name, fd in devices.items():
        node = f"/dev/{name}"
        _touch(node, 0o666)
        kernel.mount(f"/proc/self/fd/{fd}", node, flags=kernel.MS_BIND)
        os.close(fd)
        # a device on a read-only mount can still be written to, but the host's node cannot be chmodded
        kernel.mount("", node, flags=_LOCKED)
    for name, target in _DEVICE_LINKS:
        os.symlink(target, f"/dev/{name}")
    os.mkdir("/dev/pts")
    os.mkdir("/dev/shm")
    kernel.mount("devpts", "/dev/pts", "devpts", _API, "newinstance,ptmxmode=0666,mode=620")
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", _API | kernel.MS_NODEV, "mode=1777,size=5%")


def _restrict_proc() -> None:
    # Writing to what is not about a process would change the host's kernel. Which of it the kernel has depends on its
    # configuration (dynamic_debug, pressure).
    for name in os.listdir("/proc"):
        path = f"/proc/{name}"
        mode = 0 if name.isdigit() else os.lstat(path).st_mode
        if stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and mode & 0o222):
            kernel.mount(path, path, flags=kernel.MS_BIND)
            kernel.mount("", path, flags=_LOCKED)
    for path in _HIDDEN:
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", _API | kernel.MS_NODEV | kernel.MS_RDONLY, "mode=0555,size=4k")
        elif os.path.exists(path):
            kernel.mount("/dev/null", path, flags=kernel.MS_BIND)


def _limit_processes() -> None:
    """Contain a fork bomb.

    RLIMIT_NPROC does not apply to the host's root. kernel.pid_max does, and is per pid namespace since Linux 6.14.
    """
    if kernel.release() < (6, 14):
        return
    fd = os.open("/proc/sys/kernel/pid_max", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % PROCESS_LIMIT)
    finally:
        os.close(fd)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _touch(path: str, mode: int) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode))
