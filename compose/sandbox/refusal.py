"""Remedies for a machine that refuses the sandbox: a sysctl, a package, a subuid entry, or flags for its container.

The kernel answers EPERM to almost everything; the cause is guessed from the settings known to block user namespaces.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from compose.bindings import this_system
from compose.errors import SandboxError

# Each of these blocks user namespaces when it has this value,
_BLOCKING = {
    "kernel.unprivileged_userns_clone": "0",  # Debian
    "kernel.apparmor_restrict_unprivileged_userns": "1",  # Ubuntu
    "user.max_user_namespaces": "0",
}
# and allows them with this one.
_ALLOWING = {
    "kernel.unprivileged_userns_clone": "1",
    "kernel.apparmor_restrict_unprivileged_userns": "0",
    "user.max_user_namespaces": "15000",
}
_LIMITS = tuple(f"user.max_{kind}_namespaces" for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"))
"""Sysctls that limit the number of namespaces of each kind; the kernel sets all of them to the same number."""
_CONTAINER_FLAGS = {
    # rootless: root in the container is an ordinary user, and the capability applies to that user's own namespace
    "podman": "run the container with: podman run --cap-add=sys_admin --security-opt label=disable (if podman runs "
    "as root: --security-opt seccomp=unconfined --security-opt unmask=ALL --security-opt label=disable)",
    "docker": "run the container with: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined",
    # procMount Unmasked needs hostUsers: false; on nodes with AppArmor the runtime's default profile denies mounts
    "kubernetes": "the container needs securityContext: {seccompProfile: {type: Unconfined}, appArmorProfile: {type: "
    "Unconfined}, procMount: Unmasked}, and its pod hostUsers: false",
}
_ELSEWHERE = (
    "whoever started this must allow unshare, setns, mount and pivot_root (seccomp, AppArmor or SELinux policy), and "
    "leave /proc unmasked; for containers: podman run --security-opt seccomp=unconfined --security-opt unmask=ALL"
)
_CONTAINER_FILES = (
    ("kubernetes", "run/secrets/kubernetes.io"),
    ("podman", "run/.containerenv"),
    ("docker", ".dockerenv"),
)
_UIDMAP = {"debian": "apt-get install uidmap", "fedora": "dnf install shadow-utils"}
_SUBORDINATE_COUNT = 65536
"""Number of ids that useradd gives to a user."""
_FIRST_SUBORDINATE = 100000


class Step(enum.Enum):
    """A step of entering the sandbox; its value begins the error message when the step fails."""

    SUBORDINATES = "not enough subordinate ids for file owners"
    PROGRAM = "cannot map ids for file owners"
    NAMESPACE = "this machine refuses a user namespace"
    MAPPING = "mapping ids for file owners is refused"
    MOUNT = "this machine refuses mounts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is known of a machine that may explain a refusal.

    container: "podman", "docker", "kubernetes", or "". families: ID and ID_LIKE of os-release. settings: values of the sysctls
    in _BLOCKING and _LIMITS that exist. next_id: the first id above all subordinate ranges.
    """

    container: str = ""
    families: tuple[str, ...] = ()
    no_new_privileges: bool = False
    chrooted: bool = False
    settings: Mapping[str, str]
    next_id: int = _FIRST_SUBORDINATE

    @classmethod
    def here(cls) -> Self:
        """Describe this machine."""
        system = this_system()
        status = dict(line.split(":\t", 1) for line in read_text("/proc/self/status").splitlines() if ":\t" in line)
        mounted = [line.split(" ")[4] for line in read_text("/proc/self/mountinfo").split("\n") if line]
        settings = {name: read_text(f"/proc/sys/{name.replace('.', '/')}").strip() for name in (*_BLOCKING, *_LIMITS)}
        return cls(
            container=next((name for name, mark in _CONTAINER_FILES if os.path.exists(f"/{mark}")), ""),
            families=(system.get("ID", ""), *system.get("ID_LIKE", "").split()),
            no_new_privileges=status.get("NoNewPrivs") == "1",
            chrooted=bool(mounted) and "/" not in mounted,
            settings={name: value for name, value in settings.items() if value},
            next_id=next_subordinate(read_text("/etc/subuid") + read_text("/etc/subgid")),
        )

    def fixes(self) -> tuple[str, ...]:
        """Commands that change the settings which block user namespaces here."""
        return tuple(
            f"sysctl -w {name}={_ALLOWING[name]}"
            for name, value in _BLOCKING.items()
            if self.settings.get(name) == value
        )

    def low_limits(self) -> tuple[str, ...]:
        """The sysctls that most likely allow too few namespaces: those that somebody has lowered."""
        limits = {name: int(self.settings[name]) for name in _LIMITS if name in self.settings}
        most = max(limits.values(), default=0)
        return tuple(name for name, limit in limits.items() if limit < most) or ("user.max_user_namespaces",)


def refused(step: Step, reason: OSError | str, machine: Machine, *, user: str = "") -> SandboxError:
    """The error for a refused step. user: who needs subordinate ids."""
    text = reason if isinstance(reason, str) else reason.strerror
    number = 0 if isinstance(reason, str) else reason.errno or 0
    return SandboxError(f"{step.value}: {text}", hint=remedy(step, machine, number=number, user=user))


def remedy(step: Step, machine: Machine, *, number: int = 0, user: str = "") -> str:
    """How to fix a refusal: a command line if there is one. number: its errno."""
    match step:
        case Step.SUBORDINATES:
            return f"as root: echo {user}:{machine.next_id}:{_SUBORDINATE_COUNT} | tee -a /etc/subuid /etc/subgid"
        case Step.PROGRAM:
            return next(
                (f"as root: {_UIDMAP[family]}" for family in machine.families if family in _UIDMAP),
                "install newuidmap and newgidmap, which are part of shadow",
            )
        case Step.MAPPING if machine.no_new_privileges:
            return (
                "newuidmap is setuid root, which no_new_privs forbids: start compose without it (no-new-privileges of podman "
                "and docker, allowPrivilegeEscalation: false of kubernetes, NoNewPrivileges= of systemd)"
            )
        case Step.MAPPING:
            return "newuidmap and newgidmap must be setuid root: chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap"
        case Step.NAMESPACE if number == errno.ENOSPC:
            settings = " ".join(f"{name}=15000" for name in machine.low_limits())
            return f"as root: sysctl -w {settings} (or namespaces are nested too deep)"
    commands = " && ".join(machine.fixes())
    fix = f"as root: {commands} (and in a file in /etc/sysctl.d to persist)" if commands else ""
    if machine.container:
        # without an AppArmor profile, Ubuntu's restriction also applies in a container
        on_host = f"; if that is not enough, on the host itself {fix}" if fix else ""
        return _CONTAINER_FLAGS[machine.container] + on_host
    if fix:
        return fix
    if machine.chrooted:
        return "the kernel creates no user namespace in a chroot: enter it with pivot_root instead, or as a container"
    return _ELSEWHERE


def next_subordinate(text: str) -> int:
    """The first id above all ranges in the text of subuid(5) files."""
    ends = [int(first) + int(count) for first, count in re.findall(r"^[^#:\n]+:(\d+):(\d+)\s*$", text, re.MULTILINE)]
    return max([_FIRST_SUBORDINATE, *ends])


def read_text(path: str) -> str:
    """Content of a system file, "" if it is absent or unreadable. Paths and comments in it need not be UTF-8."""
    with contextlib.suppress(OSError), open(path, errors="surrogateescape") as file:
        return file.read()
    return ""
