"""Remedies for machines that refuse the sandbox."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from compose.cli.ending import limited
from compose.limits import LIMITS_HINT
from compose.process import Program
from compose.sandbox import child, refusal
from compose.sandbox.identity import ids_from_zero, subordinate_ranges
from compose.sandbox.refusal import Machine, Step, next_subordinate, read_text, refused, remedy
from compose.workroot import server

UBUNTU = Machine(families=("ubuntu", "debian"), settings={"kernel.apparmor_restrict_unprivileged_userns": "1"})
DEBIAN = Machine(
    families=("debian",), settings={"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "9"}
)


@pytest.mark.parametrize(
    ("step", "machine", "expected"),
    [
        (Step.SUBORDINATES, DEBIAN, "as root: echo me:100000:65536 | tee -a /etc/subuid /etc/subgid"),
        (Step.PROGRAM, UBUNTU, "as root: apt-get install uidmap"),
        (Step.PROGRAM, Machine(families=("rhel", "fedora"), settings={}), "as root: dnf install shadow-utils"),
        (Step.PROGRAM, Machine(settings={}), "install newuidmap and newgidmap, which are part of shadow"),
        (Step.NAMESPACE, DEBIAN, "sysctl -w kernel.unprivileged_userns_clone=1 (and"),
        (Step.MOUNT, UBUNTU, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (and"),
        (Step.MAPPING, DEBIAN, "chmod u+s /usr/bin/newuidmap"),
        (Step.MAPPING, Machine(settings={}, no_new_privileges=True), "no_new_privs"),
        (Step.MOUNT, Machine(settings={}, container="podman"), "--security-opt unmask=ALL"),
        (Step.NAMESPACE, Machine(settings={}, container="podman"), "podman run --cap-add=sys_admin "),
        (Step.MOUNT, Machine(settings={}, container="docker"), "--security-opt systempaths=unconfined"),
        (
            Step.MOUNT,
            Machine(settings={}, container="kubernetes"),
            "appArmorProfile: {type: Unconfined}, procMount: Unmasked}, and its pod hostUsers: false",
        ),
        (
            Step.NAMESPACE,
            Machine(container="docker", settings=UBUNTU.settings),
            "systempaths=unconfined; if that is not enough, on the host itself as root: sysctl -w kernel.apparmor_",
        ),
        (Step.NAMESPACE, Machine(settings={}, chrooted=True), "in a chroot"),
        (Step.NAMESPACE, Machine(settings={}), "whoever started this must allow unshare"),
    ],
)
def test_remedy(step: Step, machine: Machine, expected: str) -> None:
    assert expected in remedy(step, machine, user="me")


def test_an_error_says_what_the_kernel_said() -> None:
    error = refused(Step.NAMESPACE, OSError(errno.ENOSPC, "No space left on device"), DEBIAN)
    assert error.message == "this machine refuses a user namespace: No space left on device"
    assert error.hint is not None
    assert "user.max_user_namespaces=15000" in error.hint


def test_the_limit_that_is_lower_than_the_others_is_named() -> None:
    settings = {"user.max_user_namespaces": "9000", "user.max_pid_namespaces": "3", "user.max_net_namespaces": "9000"}
    hint = remedy(Step.NAMESPACE, Machine(settings=settings), number=errno.ENOSPC)
    assert hint == "as root: sysctl -w user.max_pid_namespaces=15000 (or namespaces are nested too deep)"


def test_a_program_that_gets_no_namespace_is_not_refused_a_mount() -> None:
    program = Program(owner="scriptlet:x", phase="%post", argv=("/bin/sh",))
    hint = child._refused(program, "[Errno 28] unshare: No space left on device").hint
    assert hint is not None
    assert "_namespaces=15000" in hint
    assert child._refused(program, "[Errno 28] mount tmpfs on /tmp: No space left on device").hint != hint


def test_subordinate_ranges() -> None:
    text = "other:1:2\nme:100000:65536 # comment\n\n4242:1:999\nme:x:1\nme:200000:5\nmean:7:7\n"
    assert subordinate_ranges(text, ("me", "4242")) == ((100000, 65536), (1, 999), (200000, 5))
    assert subordinate_ranges("", ("me",)) == ()


def test_next_subordinate() -> None:
    assert next_subordinate("") == 100000
    assert next_subordinate("a:100000:65536\nb:165536:65536\n#c:900000:1\na:100000:65536\n") == 231072


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("         0          0 4294967295\n", 4294967295),
        ("0 1000 1\n1 100000 65536\n", 65537),
        ("0 1000 1\n", 1),
        ("0 1 1000\n1000 1000 1\n1001 1001 64535\n", 65536),
        ("1 100000 65536\n", 0),
        ("0 1 10\n20 30 100\n", 10),
        ("", 0),
    ],
)
def test_ids_from_zero(text: str, count: int) -> None:
    assert ids_from_zero(text) == count


def test_system_files_need_not_be_utf8(tmp_path: Path) -> None:
    """A comment in /etc/subuid, or a mount point."""
    (tmp_path / "subuid").write_bytes(b"# caf\xe9\nme:100000:65536\n")
    assert subordinate_ranges(read_text(str(tmp_path / "subuid")), ("me",)) == ((100000, 65536),)
    assert read_text(str(tmp_path / "absent")) == ""


def test_a_mount_point_is_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which the kernel escapes blanks, tabs, newlines and backslashes only (proc_pid_mountinfo(5))."""
    mounts = "36 22 98:0 /a\u2028b /mnt/c rw - ext4 x rw\n22 1 0:1 / / rw - ext4 x rw\n"
    monkeypatch.setattr(refusal, "read_text", lambda path: mounts if path == "/proc/self/mountinfo" else "")
    assert not Machine.here().chrooted


def test_a_limit_is_no_refusal() -> None:
    """As where a container may have no more processes: fork() in the server, or in the program's init, which sends a text."""
    program = Program(owner="scriptlet:x", phase="%post", argv=("/bin/sh",))
    known = {
        number: child._refused(program, str(OSError(number, os.strerror(number)))).hint
        for number in (errno.EAGAIN, errno.EPERM)
    }
    assert known == {errno.EAGAIN: LIMITS_HINT, errno.EPERM: remedy(Step.MOUNT, Machine.here())}
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    told = limited(server._portable(error))
    assert told is not None
    assert (told.message.partition(": ")[2], told.hint) == ("Too many open files", LIMITS_HINT)
