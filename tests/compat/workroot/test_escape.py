"""What a program that means harm tries: each probe runs as the program itself would, in the sandbox's last process."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.process import Program
from compose.sandbox import child, kernel

pytestmark = pytest.mark.root

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_ATTACH = 16
_SYS_OPEN_BY_HANDLE_AT = {"x86_64": 304, "aarch64": 265}.get(os.uname().machine, -1)
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine, -1)
_SYS_SETNS = {"x86_64": 308, "aarch64": 268}.get(os.uname().machine, -1)


def call(function: Callable[..., int], *arguments: object) -> str:
    """Name of the errno that a C function answers with, or "done"."""
    return "done" if function(*arguments) >= 0 else errno.errorcode[ctypes.get_errno()]


def attempt(function: Callable[[], object]) -> str:
    try:
        return f"done: {function()}"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def connect(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.connect(address)  # type: ignore[arg-type]


def status_line(name: str) -> str:
    with open("/proc/self/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def probes(host_pid: int, abstract: str) -> dict[str, object]:
    libc = _LIBC
    return {
        "pid": os.getpid(),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "init's root": os.listdir("/proc/1/root") == os.listdir("/"),
        "root": sorted(os.listdir("/")),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "kill the host's": attempt(lambda: os.kill(host_pid, 0)),
        "ptrace the host's": call(libc.ptrace, _PTRACE_ATTACH, host_pid, None, None),
        "network": attempt(lambda: connect(socket.AF_INET, ("192.0.2.1", 80))),
        "loopback": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", 22))),
        "abstract socket": attempt(lambda: connect(socket.AF_UNIX, abstract)),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "mount": call(libc.mount, b"tmpfs", b"/usr", b"tmpfs", 0, None),
        "umount": call(libc.umount2, b"/proc/sys", 2),
        "remount": call(libc.mount, b"", b"/proc/sys", None, kernel.MS_BIND | kernel.MS_REMOUNT, None),
        "device": attempt(lambda: os.mknod("/usr/sda", 0o60600, os.makedev(8, 0))),
        "fifo is fine": attempt(lambda: os.mkfifo("/usr/fifo")),
        "host name": attempt(lambda: socket.sethostname("evil")),
        "keyring": call(libc.syscall, _SYS_KEYCTL, 0, -4, 1),
        "file handle": call(
            libc.syscall, _SYS_OPEN_BY_HANDLE_AT, os.open("/", os.O_RDONLY), struct.pack("=Ii8x", 8, 1), os.O_RDONLY
        ),
        "namespace": call(libc.syscall, _SYS_SETNS, 1, 0),
        "clock": call(libc.settimeofday, b"\0" * 16, None),
        "reboot": call(libc.reboot, 0),
        "terminal": attempt(lambda: os.open("/dev/tty", os.O_RDWR)),
        "push into the terminal": attempt(lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x")),
        "chmod of a device": attempt(lambda: os.chmod("/dev/null", 0o600)),
        "writing to a device": attempt(lambda: os.write(os.open("/dev/null", os.O_WRONLY), b"x")),
        "core pattern": attempt(lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)),
        "sysrq": attempt(lambda: os.open("/proc/sysrq-trigger", os.O_WRONLY)),
        "kernel memory": attempt(lambda: os.read(os.open("/proc/kcore", os.O_RDONLY), 1)),
        "host's command line": attempt(lambda: os.read(os.open("/proc/cmdline", os.O_RDONLY), 1)),
        "FIPS mode": attempt(lambda: os.read(os.open("/proc/sys/crypto/fips_enabled", os.O_RDONLY), 1)),
        "sys": os.listdir("/sys"),
        "no new privileges": status_line("NoNewPrivs"),
        "seccomp": status_line("Seccomp"),
        "capabilities": status_line("CapEff"),
        "bounding set": status_line("CapBnd"),
        "inheritable": status_line("CapInh"),
        "processes allowed": Path("/proc/sys/kernel/pid_max").read_text().strip(),
        "environment": sorted(os.environ),
        "shared memory of the host": os.listdir("/dev/shm"),
        "ignored signals": status_line("SigIgn"),
        "blocked signals": status_line("SigBlk"),
    }


def main(root: str, host_pid: str, abstract: str, observed: str) -> None:
    """Run the probes, in a process of its own: its mounts go when it ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount(root, root, flags=kernel.MS_BIND)
    leaked = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leaked, True)

    class Probe:
        """In librpm's place."""

        def needed(self, program: Program) -> bool:
            return program.lua

        def configure(self, program: Program) -> None:
            del program

        def text_of(self, program: Program) -> str:
            return program.body

        def run(self, _program: Program, _body: int) -> int:
            print(json.dumps(probes(int(host_pid), abstract.replace("@", "\0"))), flush=True)
            return 0

    program = Program(owner="x", phase="y", argv=("probe",), lua=True, body="x", timeout=20)
    ended = child.run(root, program, 1, Probe(), observed=observed == "observed")
    # it tried to mount something
    assert ended.observed is None
    print(ended.output)
    sys.exit(ended.status or ended.timed_out)


@pytest.fixture(scope="module", params=["observed", "not observed"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the probes found."""
    root = tmp_path_factory.mktemp("root")
    for name in ("dev", "proc", "sys", "run", "tmp", "var/tmp", "usr", "etc"):
        (root / name).mkdir(parents=True)
    abstract = f"\0compose-probe-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(abstract)
        server.listen()
        arguments = [sys.executable, __file__, str(root), str(os.getpid()), abstract.replace("\0", "@")]
        arguments.append(request.param)
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("pid", 2),
        ("processes", [1, 2]),
        ("init's root", True),
        ("root", ["dev", "etc", "proc", "run", "sys", "tmp", "usr", "var"]),
        ("kill the host's", "ESRCH"),
        ("ptrace the host's", "ESRCH"),
        ("network", "ENETUNREACH"),
        ("loopback", "ENETUNREACH"),
        ("abstract socket", "ECONNREFUSED"),
        ("interfaces", ["lo"]),
        ("mount", "EPERM"),
        ("umount", "EPERM"),
        ("remount", "EPERM"),
        ("device", "EPERM"),
        ("fifo is fine", "done: None"),
        ("host name", "EPERM"),
        ("keyring", "ENOSYS"),
        ("file handle", "EPERM"),
        ("namespace", "EINVAL"),
        ("clock", "EPERM"),
        ("reboot", "EPERM"),
        ("terminal", "ENXIO"),
        ("push into the terminal", "ENOTTY"),
        ("chmod of a device", "EROFS"),
        ("writing to a device", "done: 1"),
        ("core pattern", "EROFS"),
        ("host's command line", "done: b''"),
        ("sys", []),
        ("no new privileges", "1"),
        ("seccomp", "2"),
        ("capabilities", "00000000800401fb"),
        ("bounding set", "00000000800401fb"),
        ("inheritable", "0000000000000000"),
        ("shared memory of the host", []),
        ("blocked signals", "0000000000000000"),
        ("environment", ["HOME", "LANG", "PATH", "SOURCE_DATE_EPOCH", "SYSTEMD_OFFLINE", "TZ"]),
    ],
)
def test_probe(found: dict[str, object], probe: str, expected: object) -> None:
    assert found[probe] == expected


def test_what_this_kernel_may_lack_is_out_of_reach(found: dict[str, object]) -> None:
    assert found["sysrq"] in ("EROFS", "ENOENT")
    assert found["kernel memory"] in ("done: b''", "ENOENT")
    assert found["FIPS mode"] in ("done: b''", "ENOENT")


def test_no_descriptor_is_inherited(found: dict[str, object]) -> None:
    # 0, 1, 2, the script, and the directory that was listed
    descriptors = found["descriptors"]
    assert isinstance(descriptors, list)
    assert descriptors == [0, 1, 2, 3, 5]


@pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (6, 14),
    reason="kernel.pid_max is the host's before Linux 6.14",
)
def test_processes_are_bounded(found: dict[str, object]) -> None:
    assert found["processes allowed"] == "4096"
    assert int(Path("/proc/sys/kernel/pid_max").read_text()) > 4096


if __name__ == "__main__":
    main(*sys.argv[1:])
