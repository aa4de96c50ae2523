"""What a machine that refuses a sandbox is to be told, and by whom: sysctl, package, subuid entry, a container's flags.

The kernel answers EPERM to almost everything; which of its many doors is shut is guessed from the settings that shut them.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from compose.errors import SandboxError

# Each shuts user namespaces off, with this value.
_SETTINGS = {
    "kernel.unprivileged_userns_clone": "0",  # Debian
    "kernel.apparmor_restrict_unprivileged_userns": "1",  # Ubuntu
    "user.max_user_namespaces": "0",
}
_OPEN = {
    "kernel.unprivileged_userns_clone": "1",
    "kernel.apparmor_restrict_unprivileged_userns": "0",
    "user.max_user_namespaces": "15000",
}
_RUNNERS = {
    # rootless, its root is an ordinary user, and the capability one over that user's own namespace
    "podman": "run the container with: podman run --cap-add=sys_admin --security-opt label=disable (with root's podman "
    "rather: --security-opt seccomp=unconfined --security-opt unmask=ALL --security-opt label=disable)",
    "docker": "run the container with: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined",
    # an Unmasked procMount is refused without hostUsers: false; where a node has AppArmor, its runtime's profile denies mounts
    "kubernetes": "the container needs securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: "
    "Unconfined}, procMount: Unmasked}, and its pod hostUsers: false",
}
_ELSEWHERE = (
    "whoever started this must allow unshare, setns, mount and pivot_root (seccomp, AppArmor or SELinux policy), and "
    "leave /proc as it is; for containers: podman run --security-opt seccomp=unconfined --security-opt unmask=ALL"
)
_MARKS = (
    ("kubernetes", "run/secrets/kubernetes.io"),
    ("podman", "run/.containerenv"),
    ("docker", ".dockerenv"),
)
_UIDMAP = {"debian": "apt-get install uidmap", "fedora": "dnf install shadow-utils"}
_SUBORDINATE_COUNT = 65536
"""Ids that useradd gives to a user."""
_FIRST_SUBORDINATE = 100000


class Step(enum.Enum):
    """What was asked for in vain, and how the error for it begins."""

    SUBORDINATES = "no ids for what packages own"
    PROGRAM = "nothing to give ids for what packages own"
    NAMESPACE = "this machine refuses a user namespace"
    MAPPING = "ids for what packages own are refused"
    MOUNT = "this machine refuses mounts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What shuts doors here.

    container: "podman", "docker", "kubernetes", or "". families: ID and ID_LIKE of os-release. settings: those of
    _SETTINGS that are there. next_id: first id that no user has as a subordinate.
    """

    container: str = ""
    families: tuple[str, ...] = ()
    no_new_privileges: bool = False
    chrooted: bool = False
    settings: Mapping[str, str]
    next_id: int = _FIRST_SUBORDINATE

    @classmethod
    def here(cls) -> Self:
        try:
            system = platform.freedesktop_os_release()
        except OSError:
            system = {}
        status = dict(line.split(":\t", 1) for line in read_text("/proc/self/status").splitlines() if ":\t" in line)
        mounted = [line.split()[4] for line in read_text("/proc/self/mountinfo").splitlines()]
        settings = {name: read_text(f"/proc/sys/{name.replace('.', '/')}").strip() for name in _SETTINGS}
        return cls(
            container=next((name for name, mark in _MARKS if os.path.exists(f"/{mark}")), ""),
            families=(system.get("ID", ""), *system.get("ID_LIKE", "").split()),
            no_new_privileges=status.get("NoNewPrivs") == "1",
            chrooted=bool(mounted) and "/" not in mounted,
            settings={name: value for name, value in settings.items() if value},
            next_id=next_subordinate(read_text("/etc/subuid") + read_text("/etc/subgid")),
        )

    def shut(self) -> tuple[str, ...]:
        """Settings that shut user namespaces off, as the lines that open them."""
        return tuple(
            f"sysctl -w {name}={_OPEN[name]}" for name, value in _SETTINGS.items() if self.settings.get(name) == value
        )


def refused(step: Step, reason: OSError | str, machine: Machine, *, user: str = "") -> SandboxError:
    """The error for a step that was refused. user: who needs subordinate ids."""
    said = reason if isinstance(reason, str) else reason.strerror
    number = 0 if isinstance(reason, str) else reason.errno or 0
    return SandboxError(f"{step.value}: {said}", hint=way_out(step, machine, number=number, user=user))


def way_out(step: Step, machine: Machine, *, number: int = 0, user: str = "") -> str:
    """What mends a refusal: a command line where there is one."""
    match step:
        case Step.SUBORDINATES:
            return f"as root: echo {user}:{machine.next_id}:{_SUBORDINATE_COUNT} | tee -a /etc/subuid /etc/subgid"
        case Step.PROGRAM:
            return next(
                (f"as root: {_UIDMAP[each]}" for each in machine.families if each in _UIDMAP),
                "install newuidmap and newgidmap, which are part of shadow",
            )
        case Step.MAPPING if machine.no_new_privileges:
            return (
                "newuidmap is setuid root, which no_new_privs forbids: start without it (no-new-privileges of podman and "
                "docker, allowPrivilegeEscalation: false of kubernetes, NoNewPrivileges= of systemd)"
            )
        case Step.MAPPING:
            return "newuidmap and newgidmap must be setuid root: chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap"
        case Step.NAMESPACE if number == errno.ENOSPC:
            return "as root: sysctl -w user.max_user_namespaces=15000 (or namespaces are nested too deep)"
    shut = machine.shut()
    opened = f"as root: {' && '.join(shut)} (and into a file of /etc/sysctl.d, to last)" if shut else ""
    if machine.container:
        # without a profile of AppArmor's, Ubuntu's restriction holds in a container too
        further = f"; where that is not enough, on the machine itself {opened}" if opened else ""
        return _RUNNERS[machine.container] + further
    if opened:
        return opened
    if machine.chrooted:
        return "the kernel makes no user namespace in a chroot: enter it with pivot_root instead, or as a container"
    return _ELSEWHERE


def next_subordinate(text: str) -> int:
    """The first id above all ranges of subuid(5) files."""
    ends = [int(first) + int(count) for first, count in re.findall(r"^[^#:\n]+:(\d+):(\d+)\s*$", text, re.MULTILINE)]
    return max([_FIRST_SUBORDINATE, *ends])


def read_text(path: str) -> str:
    """A file of the system, "" when it is not there or not to be read."""
    with contextlib.suppress(OSError), open(path) as file:
        return file.read()
    return ""
