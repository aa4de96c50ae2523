"""Attempts of a malicious program to escape: each probe runs in the program's own process in the sandbox.

Tested with root and with an ordinary user as the user who composes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.sandbox import child, identity, kernel
from tests.support.inprocess import PROGRAM, InProcess
from tests.support.ordinary import Stage

pytestmark = pytest.mark.root

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_ATTACH = 16
_LINUX_REBOOT_CMD_CAD_OFF = 0
_NEW_USER_NAMESPACE = 0x10000000
# asm/unistd.h: x86_64, aarch64
_NUMBERS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_open": (434, 434),
    "process_vm_readv": (310, 270),
    "request_key": (249, 218),
    "setns": (308, 268),
    "swapon": (167, 224),
    "userfaultfd": (323, 282),
}


def call(function: Callable[..., int], *arguments: object) -> str:
    """Name of the errno with which a C function fails, or "done"."""
    return "done" if function(*arguments) >= 0 else errno.errorcode[ctypes.get_errno()]


def system(name: str, *arguments: object) -> str:
    """The same for a system call."""
    return call(_LIBC.syscall, _NUMBERS[name][os.uname().machine == "aarch64"], *arguments)


def attempt(function: Callable[[], object]) -> str:
    try:
        return f"done: {function()}"
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ValueError as error:
        # what Python makes of setrlimit's EPERM
        return str(error)


def connect(family: int, address: object) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.connect(address)  # type: ignore[arg-type]


def more_memory_than_there_is() -> None:
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + (1 << 30)
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)


def fork_bomb() -> int:
    """How many threads can be created: they count as processes, and are cheaper."""
    threading.stack_size(1 << 16)
    rest = threading.Event()
    for count in range(5000):
        try:
            threading.Thread(target=rest.wait, daemon=True).start()
        except RuntimeError:
            return count
    return 5000


def read_memory(pid: int) -> str:
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("PN", ctypes.addressof(buffer), len(buffer))
    return system("process_vm_readv", pid, vector, 1, vector, 1, 0)


def push(request: int) -> None:
    """Fake input on a terminal, even the program's own."""
    _, terminal = os.openpty()
    fcntl.ioctl(terminal, request, b"x")


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def writable_in_proc() -> list[str]:
    """Files of /proc that are made to be written to, are not about a process, and open for writing."""
    found = []
    for top in os.listdir("/proc"):
        if not top.isdigit() and not os.path.islink(f"/proc/{top}"):
            names = [os.path.join(directory, name) for directory, _, names in os.walk(f"/proc/{top}") for name in names]
            found += [name for name in names or [f"/proc/{top}"] if opens_for_writing(name)]
    return found


def opens_for_writing(path: str) -> bool:
    if not os.lstat(path).st_mode & 0o222:
        return False
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    # /dev/null, which hides what is there
    return not os.path.samefile(path, "/dev/null")


def status_line(name: str) -> str:
    with open("/proc/self/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def probes(host_pid: int, abstract: str) -> dict[str, object]:
    libc = _LIBC
    return {
        "pid": os.getpid(),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "init's root": attempt(lambda: os.listdir("/proc/1/root")),
        "init's program": attempt(lambda: os.open("/proc/1/exe", os.O_RDONLY)),
        "init's memory": attempt(lambda: os.open("/proc/1/mem", os.O_RDWR)),
        "root": sorted(os.listdir("/")),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "kill the host's": attempt(lambda: os.kill(host_pid, 0)),
        "ptrace the host's": call(libc.ptrace, _PTRACE_ATTACH, host_pid, None, None),
        "ptrace init": call(libc.ptrace, _PTRACE_ATTACH, 1, None, None),
        "read the host's memory": read_memory(host_pid),
        "a handle on the host's process": system("pidfd_open", host_pid, 0),
        "network": attempt(lambda: connect(socket.AF_INET, ("192.0.2.1", 80))),
        "loopback": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", 22))),
        "abstract socket": attempt(lambda: connect(socket.AF_UNIX, abstract)),
        "packets": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "hypervisor": attempt(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "mount": call(libc.mount, b"tmpfs", b"/usr", b"tmpfs", 0, None),
        "mount the new way": system("open_tree", -100, b"/", 1),
        "umount": call(libc.umount2, b"/proc/sys", 2),
        "remount": call(libc.mount, b"", b"/proc/sys", None, kernel.MS_BIND | kernel.MS_REMOUNT, None),
        "pivot_root": call(libc.pivot_root, b"/usr", b"/usr"),
        "device": attempt(lambda: os.mknod("/usr/sda", 0o60600, os.makedev(8, 0))),
        "fifo is fine": attempt(lambda: os.mkfifo("/usr/fifo")),
        "host name": attempt(lambda: socket.sethostname("evil")),
        "keyring": system("keyctl", 0, -4, 1),
        "a new key": system("add_key", b"user", b"x", b"x", 1, -4),
        "a key from the host": system("request_key", b"user", b"x", None, -4),
        "file handle": system("open_by_handle_at", os.open("/", os.O_RDONLY), struct.pack("=Ii8x", 8, 1), os.O_RDONLY),
        "namespace": system("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0),
        "mount namespace": call(libc.unshare, kernel.CLONE_NEWNS),
        "user namespace": call(libc.unshare, _NEW_USER_NAMESPACE),
        "user namespace by clone": system("clone", _NEW_USER_NAMESPACE | signal.SIGCHLD, None, None, None, None),
        "user namespace by clone3": system("clone3", None, 0),
        "clock": call(libc.settimeofday, b"\0" * 16, None),
        "clock_settime": system("clock_settime", 0, b"\0" * 16),
        "adjtime": system("clock_adjtime", 0, struct.pack("=I204x", 1)),
        "reboot": call(libc.reboot, _LINUX_REBOOT_CMD_CAD_OFF),
        "load a module": system("init_module", b"", 0, b""),
        "unload a module": system("delete_module", b"loop", 0),
        "another kernel": system("kexec_load", 0, 0, None, 0),
        "swap": system("swapon", b"/usr", 0),
        "kernel log": call(libc.klogctl, 3, ctypes.create_string_buffer(64), 64),
        "bpf": system("bpf", 0, None, 0),
        "perf": system("perf_event_open", None, 0, -1, -1, 0),
        "userfaultfd": system("userfaultfd", 1),
        "io_uring": system("io_uring_setup", 1, None),
        "terminal": attempt(lambda: os.open("/dev/tty", os.O_RDWR)),
        "push into the terminal": attempt(lambda: push(termios.TIOCSTI)),
        "push into the console": attempt(lambda: push(0x541C)),
        "chmod of a device": attempt(lambda: os.chmod("/dev/null", 0o600)),
        "chmod of standard input": attempt(lambda: os.fchmod(0, 0o666)),
        # this process is librpm's, as a Lua script is: the host's Python runs in it
        "chmod of its own program": attempt(lambda: os.chmod("/proc/self/exe", 0o755)),
        "writing to a device": attempt(lambda: os.write(os.open("/dev/null", os.O_WRONLY), b"x")),
        "core pattern": attempt(lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)),
        "sysrq": attempt(lambda: os.open("/proc/sysrq-trigger", os.O_WRONLY)),
        "kernel memory": attempt(lambda: os.read(os.open("/proc/kcore", os.O_RDONLY), 1)),
        "host's command line": attempt(lambda: os.read(os.open("/proc/cmdline", os.O_RDONLY), 1)),
        "FIPS mode": attempt(lambda: os.read(os.open("/proc/sys/crypto/fips_enabled", os.O_RDONLY), 1)),
        "writable files of the kernel": writable_in_proc(),
        "sys": os.listdir("/sys"),
        "memory": attempt(more_memory_than_there_is),
        "a higher limit": attempt(lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 60, 1 << 60))),
        "core dumps": attempt(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))),
        "limit of core dumps": resource.getrlimit(resource.RLIMIT_CORE),
        "outlive others": attempt(lambda: write("/proc/self/oom_score_adj", "-1")),
        "first to go": Path("/proc/self/oom_score_adj").read_text().strip(),
        "more priority": attempt(lambda: os.nice(-5)),
        "real time": attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
        "no new privileges": status_line("NoNewPrivs"),
        "seccomp": status_line("Seccomp"),
        "capabilities": status_line("CapEff"),
        "bounding set": status_line("CapBnd"),
        "inheritable": status_line("CapInh"),
        "processes allowed": Path("/proc/sys/kernel/pid_max").read_text().strip(),
        "environment": sorted(os.environ),
        "groups": os.getgroups(),
        "fork bomb": fork_bomb(),
        "shared memory of the host": os.listdir("/dev/shm"),
        "ignored signals": status_line("SigIgn"),
        "blocked signals": status_line("SigBlk"),
    }


def main(root: str, host_pid: str, abstract: str, observed: str) -> None:
    """Run the probes, in a separate process so that its mounts disappear when it ends."""
    if not os.path.exists(root):
        for name in ("dev", "proc", "sys", "run", "tmp", "var/tmp", "usr", "etc"):
            os.makedirs(f"{root}/{name}")
        identity.enter()
        identity.renew()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    kernel.mount(root, root, flags=kernel.MS_BIND)
    leaked = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leaked, True)

    probe = InProcess(lambda: json.dumps(probes(int(host_pid), abstract.replace("@", "\0"))))
    result = child.run(root, PROGRAM, 1, probe, observed=observed == "observed")
    # it tried to mount something
    assert result.observed is None
    print(result.output)
    sys.exit(result.status or result.timed_out)


@pytest.fixture(scope="module", params=["root", "root observed", "user", "user observed"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the probes found."""
    stage = Stage(directory=tmp_path_factory.mktemp("stage"), groups="--groups=77")
    abstract = f"\0compose-probe-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(abstract)
        server.listen()
        arguments = ["/mnt/home/root", str(os.getpid()), abstract.replace("\0", "@")]
        arguments.append("observed" if "observed" in request.param else "")
        script = "/mnt/project/tests/compat/workroot/test_escape.py"
        done = stage.run(sys.executable, script, *arguments, root="root" in request.param)
    assert done.returncode == 0, done.stdout
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        ("pid", 2),
        ("processes", [1, 2]),
        ("init's root", "EACCES"),
        ("init's program", "EACCES"),
        ("init's memory", "EACCES"),
        ("root", ["dev", "etc", "proc", "run", "sys", "tmp", "usr", "var"]),
        ("kill the host's", "ESRCH"),
        ("ptrace the host's", "ESRCH"),
        ("ptrace init", "EPERM"),
        ("read the host's memory", "ESRCH"),
        ("a handle on the host's process", "ESRCH"),
        ("network", "ENETUNREACH"),
        ("loopback", "ENETUNREACH"),
        ("abstract socket", "ECONNREFUSED"),
        ("packets", "EPERM"),
        ("hypervisor", "EAFNOSUPPORT"),
        ("interfaces", ["lo"]),
        ("mount", "EPERM"),
        ("mount the new way", "EPERM"),
        ("umount", "EPERM"),
        ("remount", "EPERM"),
        ("pivot_root", "EPERM"),
        ("device", "EPERM"),
        ("fifo is fine", "done: None"),
        ("host name", "EPERM"),
        ("keyring", "ENOSYS"),
        ("a new key", "ENOSYS"),
        ("a key from the host", "ENOSYS"),
        ("file handle", "EPERM"),
        ("namespace", "EPERM"),
        ("mount namespace", "EPERM"),
        ("user namespace", "EPERM"),
        ("user namespace by clone", "EPERM"),
        ("user namespace by clone3", "ENOSYS"),
        ("clock", "EPERM"),
        ("clock_settime", "EPERM"),
        ("adjtime", "EPERM"),
        ("reboot", "EPERM"),
        ("swap", "EPERM"),
        ("kernel log", "EPERM"),
        ("bpf", "ENOSYS"),
        ("perf", "ENOSYS"),
        ("userfaultfd", "ENOSYS"),
        ("io_uring", "ENOSYS"),
        ("terminal", "ENXIO"),
        ("push into the terminal", "EPERM"),
        ("push into the console", "EPERM"),
        ("chmod of a device", "EROFS"),
        ("chmod of standard input", "EROFS"),
        ("chmod of its own program", "EROFS"),
        ("writing to a device", "done: 1"),
        ("writable files of the kernel", []),
        ("host's command line", "done: b''"),
        ("sys", []),
        ("memory", "ENOMEM"),
        ("a higher limit", "not allowed to raise maximum limit"),
        ("core dumps", "done: None"),
        ("outlive others", "EACCES"),
        ("first to go", "1000"),
        ("more priority", "EPERM"),
        ("real time", "EPERM"),
        ("no new privileges", "1"),
        ("groups", [0]),
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


def test_core_dumps(found: dict[str, object]) -> None:
    """Whoever runs the tests may have a limit of 0, as sudo sets it, and lack the capability to raise it."""
    assert found["limit of core dumps"] == [1, 1] or not resource.getrlimit(resource.RLIMIT_CORE)[1]


def test_what_this_kernel_may_lack_is_out_of_reach(found: dict[str, object]) -> None:
    assert found["sysrq"] in ("EROFS", "ENOENT")
    for probe in ("load a module", "unload a module", "another kernel"):
        assert found[probe] in ("EPERM", "ENOSYS")
    # a file of this machine's root, who an ordinary user is not
    assert found["core pattern"] in ("EROFS", "EACCES")
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
    # but for the probes' own
    assert isinstance(found["fork bomb"], int)
    assert 4000 < found["fork bomb"] < 4096
    assert int(Path("/proc/sys/kernel/pid_max").read_text()) > 4096


if __name__ == "__main__":
    main(*sys.argv[1:])
