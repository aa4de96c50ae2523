"""Handlers of foreign binary formats: binfmt_misc, with which a kernel runs programs of other architectures in an emulator.

A handler with flag F keeps its emulator open, and the kernel runs that in any root directory. It is a file of the host: with
the machine's root, a program could reach it as /proc/PID/exe of an emulated one, and change its owner or mode, even make it
setuid. Without handlers, foreign programs do not start, as on a machine without emulators.

Linux 6.7 and later have handlers per user namespace: those of a parent apply until binfmt_misc is mounted in it
(fs/binfmt_misc.c).
"""

from __future__ import annotations

import errno
import os

from compose.errors import SandboxError
from compose.sandbox import kernel
from compose.sandbox.refusal import read_text

_PLACE = "/proc/sys/fs/binfmt_misc"
_KIND = "binfmt_misc"
_CONTROLS = ("register", "status")
PER_NAMESPACE = (6, 7)
"""The first version of Linux in which each user namespace has its own handlers."""
_EVERY_ID = ["0", "0", "4294967295"]
# errors of mount(2) where the kernel has no binfmt_misc, or its module is not loaded
_ABSENT = (errno.ENODEV, errno.ENOENT)


def reachable() -> str | None:
    """An emulator of the host that programs of this process, which is root, could change; None without one, "" where that
    cannot be found out. If the process may mount, its mounts must be its own."""
    ranges = [line.split() for line in read_text("/proc/self/uid_map").splitlines()]
    if not any(outside == "0" for _, outside, _ in ranges):
        # root of an ordinary user's namespace, in which the machine's root has no id; any id would do, as root may change
        # the files of all that are mapped
        return None
    if not _is_mounted():
        if ranges != [_EVERY_ID]:
            # mounting it here would take the handlers from everything else in this namespace
            return ""
        try:
            kernel.mount(_KIND, _PLACE, _KIND)
        except OSError as error:
            return None if error.errno in _ABSENT else ""
    if not read_text(f"{_PLACE}/status").startswith("enabled"):
        return None
    texts = (read_text(f"{_PLACE}/{name}") for name in sorted(os.listdir(_PLACE)) if name not in _CONTROLS)
    return next((emulator for text in texts if (emulator := kept_open(text))), None)


def _is_mounted() -> bool:
    """Is binfmt_misc at its place? Found without a look there: systemd may have an automount, which then is waited for until
    it is mounted in systemd's mount namespace, and so for ever in another one."""
    rows = (line.partition(" - ") for line in read_text("/proc/self/mountinfo").split("\n"))
    kinds = [source.split(" ")[0] for mount, _, source in rows if mount.split(" ")[4:5] == [_PLACE]]
    return kinds[-1:] == [_KIND]


def kept_open(text: str) -> str | None:
    """The emulator of a handler with flag F; None for others. text: of its file in binfmt_misc."""
    rows = dict(line.partition(" ")[::2] for line in text.splitlines())
    return rows["interpreter"] if "enabled" in rows and "F" in rows.get("flags:", "") else None


def check_hideable(emulator: str) -> None:
    """Raises SandboxError if hide() cannot hide an emulator from reachable()."""
    if emulator and kernel.release() < PER_NAMESPACE:
        raise SandboxError(
            f"a package could change {emulator}, with which this kernel runs programs of other architectures",
            hint=f"compose as an ordinary user, which makes the same commit; or as root: echo 0 >{_PLACE}/status (1 turns "
            "these handlers on again). Linux 6.7 and later can hide them",
        )


def register(name: str, magic: bytes, mask: bytes, emulator: str, *, flags: str) -> None:
    """Register a handler in this user namespace, after hide(). magic, mask: of a program's first bytes. Raises OSError."""
    words = ("".join(f"\\x{byte:02x}" for byte in data) for data in (magic, mask))
    with open(f"{_PLACE}/register", "w") as file:
        file.write(":".join(("", name, "M", "", *words, emulator, flags)))


def hide() -> None:
    """Leave this user namespace, just made, without handlers, if the kernel can. Raises OSError."""
    if kernel.release() < PER_NAMESPACE:
        return
    try:
        kernel.mount(_KIND, _PLACE, _KIND)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
