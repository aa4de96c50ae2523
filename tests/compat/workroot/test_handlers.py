"""A package's program of another architecture does not start, so that it cannot reach the host's emulator through /proc."""

from __future__ import annotations

import errno
import os
import platform
import struct
import sys
from pathlib import Path

import pytest

from compose.blobs import BlobStore
from compose.errors import SandboxError
from compose.sandbox import child, emulation, handlers, identity, kernel
from compose.workroot.probe import probe
from tests.support.inprocess import PROGRAM, InProcess
from tests.support.ordinary import Stage

pytestmark = pytest.mark.root
SCRIPT = "/mnt/project/tests/compat/workroot/test_handlers.py"
_PLACE = "/proc/sys/fs/binfmt_misc"
_EMULATOR = "/mnt/home/emulator"
# pause(2), for ever
_CODE = bytes.fromhex("b822000000 0f05 ebf7")


def emulator() -> bytes:
    """A static program that waits; elf(5)."""
    start, size = 0x400000, 120 + len(_CODE)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, start + 120, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x1000)
    return b"\x7fELF\2\1\1" + bytes(9) + header + segment + _CODE


def attack() -> str:
    """What becomes of a foreign program, and of the emulator when the sandbox's root changes its mode."""
    Path("/tmp/foreign").write_bytes(b"FOREIGN")
    os.chmod("/tmp/foreign", 0o755)
    try:
        pid = os.posix_spawn("/tmp/foreign", ["foreign"], {})
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    try:
        os.chmod(f"/proc/{pid}/exe", 0o4777)
    except OSError as error:
        return f"runs, {errno.errorcode[error.errno or 0]}"
    return "runs, and can be changed"


def main(root: str) -> None:
    """Register a handler in a user namespace of its own, then run the attack as the sandbox is entered from there."""
    if not os.path.exists(root):
        for name in ("dev", "proc", "sys", "run", "tmp", "var/tmp"):
            os.makedirs(f"{root}/{name}")
        print(identity.enter().value, flush=True)
        identity.renew()
    kernel.mount(root, root, flags=kernel.MS_BIND)
    result = child.run(root, PROGRAM, 1, InProcess(attack))
    print(result.output, end="")


# An own user namespace, of which the root is the machine's, has handlers of its own: nothing is registered on the machine.
REGISTER = f"""
import os, sys
from compose.sandbox import identity, kernel
from tests.compat.workroot.test_handlers import emulator
identity._enter_user_namespace()
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount("binfmt_misc", "{_PLACE}", "binfmt_misc")
with open("{_EMULATOR}", "wb") as file:
    file.write(emulator())
os.chmod("{_EMULATOR}", 0o755)
with open("{_PLACE}/register", "w") as file:
    file.write(":compose-test:M::FOREIGN::{_EMULATOR}:F")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(kernel.release() < (6, 7), reason="handlers are per user namespace from Linux 6.7 on")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the emulator is x86_64's machine code")
def test_an_emulator_is_out_of_reach(tmp_path: Path) -> None:
    stage = Stage(directory=tmp_path)
    done = stage.run(sys.executable, "-c", REGISTER, SCRIPT, "/mnt/home/root", root=True)
    assert done.stdout.splitlines() == ["user namespace", "ENOEXEC"]
    assert os.stat(tmp_path / "home/emulator").st_mode & 0o7777 == 0o755


# As systemd does: binfmt_misc is only mounted when somebody looks at it. In another mount namespace nobody would see that, and
# systemd answers no second request.
AUTOMOUNT = f"""
import os, subprocess, sys
from compose.sandbox import kernel
kernel.unshare(kernel.CLONE_NEWNS)
kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
if os.getpgrp() != os.getpid():
    os.setpgid(0, 0)
_, requests = os.pipe2(os.O_DIRECT)
kernel.mount("x", "{_PLACE}", "autofs", data=f"fd={{requests}},pgrp={{os.getpgrp()}},minproto=5,maxproto=5,direct")
subprocess.run([sys.executable, *sys.argv[1:]], start_new_session=True, check=True, timeout=20)
"""


@pytest.mark.skipif("autofs" not in Path("/proc/filesystems").read_text(), reason="this kernel has no autofs")
def test_what_would_be_mounted_on_demand_is_not_waited_for(tmp_path: Path) -> None:
    stage = Stage(directory=tmp_path)
    done = stage.run(sys.executable, "-c", AUTOMOUNT, SCRIPT, "/mnt/home/root", root=True)
    assert done.stdout.splitlines() == ["root namespaces", "ENOEXEC"]


def test_without_handlers_root_needs_no_user_namespace(tmp_path: Path) -> None:
    done = Stage(directory=tmp_path).run(sys.executable, SCRIPT, "/mnt/home/root", root=True)
    assert done.stdout.splitlines() == ["root namespaces", "ENOEXEC"]


@pytest.mark.parametrize("arch", emulation.FORMATS)
def test_programs_of_other_architectures(arch: str, tmp_path: Path) -> None:
    """Of those whose emulators are installed."""
    if arch == platform.machine() or emulation.emulator_for(arch) is None or kernel.release() < (6, 7):
        pytest.skip(f"this machine does not emulate {arch}")
    assert str(probe(BlobStore(str(tmp_path / "blobs")), str(tmp_path), arch)) == "user namespace, overlay"


def test_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulation, "_PATH", str(tmp_path))
    assert emulation.emulator_for("s390x") is None
    error = emulation.missing("s390x", "x86_64")
    assert "x86_64, cannot run the programs of packages for s390x" in error.message
    assert "qemu-user" in (error.hint or "")
    assert "qemu-user" not in (emulation.missing("ppc64", "x86_64").hint or "")
    # one that needs libraries would look for them in the target
    for name, program in (("qemu-s390x", "/bin/sh"), ("qemu-s390x-static", tmp_path / "static")):
        (tmp_path / "static").write_bytes(emulation.FORMATS["x86_64"].program())
        (tmp_path / name).write_bytes(Path(program).read_bytes())
        (tmp_path / name).chmod(0o755)
    assert emulation.emulator_for("s390x") == str(tmp_path / "qemu-s390x-static")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (
            "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: POCF\noffset 0\nmagic 7f454c46",
            "/usr/bin/qemu-s390x-static",
        ),
        ("enabled\ninterpreter /usr/bin/with space\nflags: F\nextension .exe", "/usr/bin/with space"),
        ("enabled\ninterpreter /usr/bin/wine\nflags: \nextension .exe", None),
        ("disabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: F\noffset 0", None),
        ("", None),
    ],
)
def test_handlers_that_keep_their_emulator_open(lines: str, found: str | None) -> None:
    assert handlers.kept_open(lines) == found


@pytest.mark.parametrize(
    ("id_map", "found"),
    [
        ("0 1000 1\n1 100000 65536\n", None),
        ("0 0 65536\n", ""),
        # podman run --uidmap=0:100000:1000 --uidmap=1000:0:1 --uidmap=1001:101000:64536
        ("0 100000 1000\n1000 0 1\n1001 101000 64536\n", ""),
    ],
)
def test_root_that_has_the_machine_s_root_as_any_id_can_change_its_files(
    monkeypatch: pytest.MonkeyPatch, id_map: str, found: str | None
) -> None:
    monkeypatch.setattr(handlers, "read_text", {"/proc/self/uid_map": id_map, "/proc/self/mountinfo": ""}.get)
    assert handlers.reachable() == found


def test_what_an_older_kernel_cannot_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "release", lambda: (6, 1))
    handlers.check_hideable("")
    with pytest.raises(SandboxError, match="could change /usr/bin/qemu-s390x-static") as raised:
        handlers.check_hideable("/usr/bin/qemu-s390x-static")
    assert "ordinary user" in (raised.value.hint or "")
    monkeypatch.setattr(kernel, "release", lambda: (6, 7))
    handlers.check_hideable("/usr/bin/qemu-s390x-static")


if __name__ == "__main__":
    main(*sys.argv[1:])
