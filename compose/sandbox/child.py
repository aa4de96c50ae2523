"""Running one program in a root directory: what happens between fork and exec.

    server ── fork ── A: new namespaces ── fork ── B: pid 1, mounts, pivot_root, fewer capabilities ── fork ── C: exec

B reaps what the program leaves behind; when B ends, the kernel kills all that is left in its pid namespace. A dies with
the server and B with A, so killing A (time limit) or the server (interrupt) kills everything. After the pivot nothing is
imported, loaded or looked up by name: the target's files are not to be trusted.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from compose.errors import SandboxError
from compose.process import Program
from compose.sandbox import kernel

OUTPUT_LIMIT = 64 << 10
"""Bytes of a program's output that are kept, the last ones."""
HOSTNAME = "localhost"
_SCRIPT_FD = 5
_STATUS = struct.Struct("=i")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_PRIVATE = ("run", "tmp", "var/tmp")
_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWCGROUP
)

LuaRunner = Callable[[Program, int], int]
"""(program, descriptor of its body) -> exit status; run in C, after the pivot."""


def run(root: str, program: Program, epoch: int, run_lua: LuaRunner) -> tuple[int, bool, str]:
    """Run a program with `root`, a mount point, as its root directory.

    epoch: SOURCE_DATE_EPOCH for the program. Returns (status as subprocess has it, timed out, output). The caller must
    be single-threaded. Raises SandboxError when the kernel refuses.
    """
    body = _memory_file("script", program.body.encode(errors="surrogateescape"))
    stdin = _memory_file("stdin", program.stdin) if program.stdin else os.open("/dev/null", os.O_RDONLY)
    out_read, out_write = os.pipe()
    status_read, status_write = os.pipe()
    try:
        child = os.fork()
        if not child:
            _in_child(
                lambda: _isolate(root, program, epoch, run_lua, body, stdin, out_write, status_write), status_write
            )
        os.close(out_write)
        os.close(status_write)
        output, timed_out = _collect(out_read, child, program.timeout)
        os.waitpid(child, 0)
        answer = os.read(status_read, 4096)
    finally:
        for fd in (body, stdin, out_read, status_read):
            os.close(fd)
    if timed_out:
        return -signal.SIGKILL, True, output
    if len(answer) == _STATUS.size:
        return os.waitstatus_to_exitcode(_STATUS.unpack(answer)[0]), False, output
    raise SandboxError(
        f"cannot isolate {program.argv[0]}: {answer.decode(errors='replace') or 'the sandbox died'}",
        hint="compose as root where namespaces and mounts are allowed (not in a container without them)",
    )


def _memory_file(name: str, data: bytes) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _collect(fd: int, child: int, timeout: float) -> tuple[str, bool]:
    """Read until the other end closes; (the last of it, whether the time limit struck)."""
    deadline = time.monotonic() + timeout
    kept = bytearray()
    timed_out = False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 and not timed_out:
            timed_out = True
            os.kill(child, signal.SIGKILL)
        if poll.poll(None if timed_out else max(0, left) * 1000 + 1):
            chunk = os.read(fd, 1 << 16)
            if not chunk:
                return kept.decode(errors="replace"), timed_out
            kept += chunk
            del kept[:-OUTPUT_LIMIT]


def _in_child(body: Callable[[], object], status: int) -> NoReturn:
    """Run body in a fresh child; whatever it raises goes to the status pipe as text, and the child ends."""
    try:
        body()
    except BaseException as error:
        text = str(error) if isinstance(error, OSError) else traceback.format_exc()
        os.write(status, text.encode(errors="replace")[:4000])
    os._exit(1)


def _isolate(
    root: str, program: Program, epoch: int, run_lua: LuaRunner, body: int, stdin: int, out: int, status: int
) -> None:
    """A."""
    kernel.die_with_parent(signal.SIGKILL)
    kernel.unshare(_NAMESPACES)
    init = os.fork()
    if not init:
        _in_child(lambda: _init(root, program, epoch, run_lua, body, stdin, out, status), status)
    os.waitpid(init, 0)
    os._exit(0)


def _init(
    root: str, program: Program, epoch: int, run_lua: LuaRunner, body: int, stdin: int, out: int, status: int
) -> None:
    """B."""
    kernel.die_with_parent(signal.SIGKILL)
    os.setsid()
    socket.sethostname(HOSTNAME)
    kernel.new_session_keyring()
    _arrange(body, stdin, out, status)
    _mount_api_filesystems(root)
    kernel.change_root(root)
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kernel.drop_capabilities()
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    child = os.fork()
    if not child:
        os.close(6)
        _execute(program, epoch, run_lua)
    for fd in (0, 1, 2, _SCRIPT_FD):
        os.close(fd)
    while True:
        pid, code = os.wait()
        if pid == child:
            os.write(6, _STATUS.pack(code))
            os._exit(0)


def _arrange(body: int, stdin: int, out: int, status: int) -> None:
    """Descriptors 0, 1, 2, 5 (the script) and 6 (the status pipe), all others closed."""
    # away from the low numbers first: one of them may be another's goal
    high = [os.dup(os.dup2(fd, 100 + index)) for index, fd in enumerate((stdin, out, out, body, status))]
    for fd, goal in zip(high, (0, 1, 2, _SCRIPT_FD, 6), strict=True):
        os.dup2(fd, goal, inheritable=goal != 6)
    os.closerange(3, _SCRIPT_FD)
    os.closerange(7, 1 << 16)


def _mount_api_filesystems(root: str) -> None:
    """What programs expect below /: /proc of their own pid namespace, few devices, no /sys of the host."""
    flags = kernel.MS_NOSUID | kernel.MS_NOEXEC
    dev = f"{root}/dev"
    kernel.mount("tmpfs", dev, "tmpfs", flags, "mode=0755,size=64k")
    for name in _DEVICES:
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        kernel.mount(f"/dev/{name}", f"{dev}/{name}", flags=kernel.MS_BIND)
    for name, target in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(target, f"{dev}/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{dev}/{name}")
    kernel.mount("devpts", f"{dev}/pts", "devpts", flags, "newinstance,ptmxmode=0666,mode=620")
    kernel.mount("tmpfs", f"{dev}/shm", "tmpfs", flags | kernel.MS_NODEV, "mode=1777")
    kernel.mount("proc", f"{root}/proc", "proc", flags | kernel.MS_NODEV)
    kernel.mount("tmpfs", f"{root}/sys", "tmpfs", flags | kernel.MS_NODEV | kernel.MS_RDONLY, "mode=0555,size=4k")
    for path in ("proc/sys", "proc/sysrq-trigger", "proc/irq", "proc/bus"):
        if os.path.exists(f"{root}/{path}"):
            kernel.mount(f"{root}/{path}", f"{root}/{path}", flags=kernel.MS_BIND)
            kernel.mount("", f"{root}/{path}", flags=kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | flags)
    for path in _PRIVATE:
        if os.path.isdir(f"{root}/{path}") and not os.path.islink(f"{root}/{path}"):
            mode = "0755" if path == "run" else "1777"
            kernel.mount("tmpfs", f"{root}/{path}", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode={mode}")
    if os.path.isdir(f"{root}/run"):
        os.mkdir(f"{root}/run/lock")
        # tells scriptlets that they run for an image, as rpm-ostree tells them
        os.close(os.open(f"{root}/run/ostree-booted", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _execute(program: Program, epoch: int, run_lua: LuaRunner) -> NoReturn:
    """C."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(epoch),
        # systemctl and its like then only change files
        "SYSTEMD_OFFLINE": "1",
        **dict(program.environment),
    }
    try:
        if program.lua:
            os.environ.clear()
            os.environ.update(environment)
            os._exit(run_lua(program, _SCRIPT_FD))
        script = f"/proc/self/fd/{_SCRIPT_FD}"
        argv = [script if word == "{script}" else word for word in program.argv]
        os.execve(_which(argv[0], environment["PATH"]), argv, environment)
    except OSError as error:
        sys.stderr.write(f"{program.argv[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(125)


def _which(name: str, path: str) -> str:
    if "/" in name:
        return name
    for directory in path.split(":"):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    raise FileNotFoundError(2, "not found in the tree", name)
