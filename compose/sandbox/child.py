"""Runs one program in a root directory: everything between fork and exec.

    server ── fork: new pid namespace ── fork: init (pid 1): mounts, pivot_root, drops capabilities ── fork ── exec

init reaps orphans; when it exits, the kernel kills whatever is left in its pid namespace. Each process dies with its parent,
so killing the first child (time limit) or the server (interrupt) kills everything. If the first child was killed, the server
adopts init and waits for it, so that nothing changes the tree afterwards. After pivot_root nothing is imported, loaded or
looked up by name, because the target's files are untrusted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import resource
import select
import signal
import socket
import struct
import time
from dataclasses import dataclass
from typing import NoReturn, Protocol

from compose import fs
from compose.errors import SandboxError
from compose.limits import LIMITS, LIMITS_HINT
from compose.process import Program
from compose.sandbox import filesystems, kernel, lookups, seccomp
from compose.sandbox.observe import Observation, Observer
from compose.sandbox.refusal import Machine, Step, remedy

OUTPUT_LIMIT = 64 << 10
"""How much of a program's output is kept: its last bytes."""
HOSTNAME = "localhost"
_SCRIPT_FD = 5
_STATUS_FD = 6
_ALIVE_FD = 7
_MAX_FD = 1 << 20
_ENDED = b"="
_OBSERVED = b"o"
_STATUS = struct.Struct("=ci")
_NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWNET
_OPEN_FILES = (1024, 1 << 16)
# Python ignores or handles some of these; programs expect the defaults, as under a shell.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Librpm(Protocol):
    """The functions of sandbox.lua that run in the program's process, after pivot_root."""

    def needed(self, program: Program) -> bool: ...

    def configure(self, program: Program) -> None: ...

    def text_of(self, program: Program) -> str: ...

    def run(self, program: Program, body: int) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a program ended.

    status: as in subprocess, negative for a signal. output: its last OUTPUT_LIMIT bytes. observed: None if observation was
    not requested or the program could not be followed.
    """

    status: int
    timed_out: bool
    output: str
    observed: Observation | None


def run(root: str, program: Program, epoch: int, librpm: Librpm, *, observed: bool = False) -> Exit:
    """Run a program with `root`, a mount point, as its root directory.

    epoch: SOURCE_DATE_EPOCH for the program. observed: record its path lookups, if the kernel supports it. The caller must
    be single-threaded and have no other children. Raises SandboxError when the kernel refuses.
    """
    files = [
        _sealed_file("script", program.body.encode(errors="surrogateescape")),
        _sealed_file("stdin", program.stdin),
    ]
    try:
        body, stdin = files
        # the write end closes when this process dies, even if that happens before init calls die_with_parent()
        alive, _ = _pipe(files)
        kernel.adopt_orphans()
        out_read, out = _pipe(files)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status_read, status = ours.detach(), theirs.detach()
        files += [status_read, status]
        child = os.fork()
        if not child:
            try:
                _arrange_descriptors(stdin, out, body, status, alive)
                _enter_pid_namespace()
                _become_init(root, program, epoch, librpm, observed)
            except BaseException as error:
                os.write(_STATUS_FD, str(error).encode(errors="replace")[:4000])
            finally:
                os._exit(1)
        for fd in (out, status):
            os.close(fd)
            files.remove(fd)
        output, timed_out, observation = _collect(out_read, status_read, child, program.timeout)
        os.waitpid(child, 0)
        _wait_for_init()
        reply = os.read(status_read, 4096)
    except OSError as error:
        raise _refused(program, str(error)) from error
    finally:
        for fd in files:
            os.close(fd)
    if timed_out:
        return Exit(status=-signal.SIGKILL, timed_out=True, output=output, observed=None)
    if reply.startswith(_ENDED):
        status = os.waitstatus_to_exitcode(_STATUS.unpack(reply)[1])
        return Exit(status=status, timed_out=False, output=output, observed=observation)
    raise _refused(program, reply.decode(errors="replace") or "the sandbox was killed")


def _wait_for_init() -> None:
    """After the first child was killed, init ends a little later, and only after everything in its pid namespace."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _refused(program: Program, reason: str) -> SandboxError:
    """reason: text of an OSError, perhaps of another process."""
    match = re.match(r"\[Errno (\d+)\] (unshare)?", reason)
    number = int(match[1]) if match else 0
    step = Step.NAMESPACE if match and match[2] else Step.MOUNT
    return SandboxError(
        f"cannot isolate {program.phase} of {program.owner}: {reason}",
        hint=LIMITS_HINT if number in LIMITS else remedy(step, Machine.here(), number=number),
    )


def _pipe(files: list[int]) -> tuple[int, int]:
    ends = os.pipe()
    files.extend(ends)
    return ends


def _sealed_file(name: str, data: bytes) -> int:
    """Return a descriptor of an immutable file in memory, positioned at its start."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fs.write_all(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _enter_pid_namespace() -> None:
    """Return as pid 1 of a new pid namespace; the calling process waits for it and exits.

    unshare(CLONE_NEWPID) affects children only. The server does not call it itself because it could not return to its old
    namespace: outside its user namespace it may be an ordinary user.
    """
    _end_with_parent()
    kernel.unshare(kernel.CLONE_NEWPID)
    # like the server's, for init
    alive, held = os.pipe()
    init = os.fork()
    if init:
        os.closerange(0, held)
        os.closerange(held + 1, _MAX_FD)
        os.waitpid(init, 0)
        os._exit(0)
    os.close(held)
    os.dup2(alive, _ALIVE_FD)
    os.close(alive)


def _end_with_parent() -> None:
    kernel.die_with_parent(signal.SIGKILL)
    if select.select([_ALIVE_FD], [], [], 0)[0]:
        os._exit(1)


def _collect(out: int, status: int, child: int, timeout: float) -> tuple[str, bool, Observation | None]:
    """Wait until the child and everything below it has ended.

    Returns (the end of what came from `out`, whether the time limit was hit, what was observed).
    """
    deadline = time.monotonic() + timeout
    kept = bytearray()
    timed_out = False
    observer = None
    ended = os.pidfd_open(child)
    poll = select.poll()
    for fd in (out, status, ended):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 and not timed_out:
                timed_out = True
                os.kill(child, signal.SIGKILL)
            ready = {fd for fd, _ in poll.poll(None if timed_out else max(0, left) * 1000 + 1)}
            if status in ready:
                observer = _observer(status)
                # the next message is the exit status, which run() reads
                poll.unregister(status)
            if out in ready:
                chunk = os.read(out, 1 << 16)
                if not chunk:
                    # some programs close their output early
                    poll.unregister(out)
                kept += chunk
                del kept[:-OUTPUT_LIMIT]
            elif ended in ready:
                break
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(ended)
        if observer is not None:
            observer.close()
    observation = observer.observation() if observer is not None else None
    return kept.decode(errors="replace"), timed_out, observation


def _observer(status: int) -> Observer | None:
    """Receive the descriptors that _offer_observation() sends; None, leaving the message unread, if it is another one."""
    with socket.socket(fileno=os.dup(status)) as connection:
        if connection.recv(len(_OBSERVED), socket.MSG_PEEK) != _OBSERVED:
            return None
        _, descriptors, _, _ = socket.recv_fds(connection, len(_OBSERVED), 2, socket.MSG_CMSG_CLOEXEC)
    return Observer(*descriptors) if len(descriptors) == 2 else None


def _offer_observation() -> None:
    """Let the server observe the path lookups of this process and its children, if the kernel supports it."""
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    listener = lookups.start()
    if listener is not None:
        with socket.socket(fileno=os.dup(_STATUS_FD)) as connection:
            socket.send_fds(connection, [_OBSERVED], [listener, root])
        os.close(listener)
    os.close(root)


def _become_init(root: str, program: Program, epoch: int, librpm: Librpm, observed: bool) -> None:
    """Run as pid 1 of the program's pid namespace; leaves by os._exit() or an exception.

    Expects the descriptors as _arrange_descriptors() places them.
    """
    _end_with_parent()
    os.setsid()
    _unshare()
    kernel.set_host_name(HOSTNAME)
    devices = filesystems.open_devices()
    kernel.pivot_root(root)
    filesystems.mount_all(devices)
    kernel.detach_old_root()
    if not program.stdin:
        # the sandbox's own: through a descriptor of the host's, root could chmod the host's device
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.close(null)
    os.closerange(_ALIVE_FD, _MAX_FD)
    _limit_memory()
    _drop_privileges()
    child = os.fork()
    if not child:
        if observed:
            _offer_observation()
        os.close(_STATUS_FD)
        _execute(program, epoch, librpm)
    for fd in (0, 1, 2, _SCRIPT_FD):
        os.close(fd)
    while True:
        pid, code = os.wait()
        if pid == child:
            os.write(_STATUS_FD, _STATUS.pack(_ENDED, code))
            os._exit(0)


def _unshare() -> None:
    try:
        kernel.unshare(_NAMESPACES | kernel.CLONE_NEWCGROUP)
    except OSError as error:
        # a kernel without cgroup namespaces
        if error.errno != errno.EINVAL:
            raise
        kernel.unshare(_NAMESPACES)


def _arrange_descriptors(stdin: int, out: int, body: int, status: int, alive: int) -> None:
    """Move them to 0, 1, 2, 5 (script), 6 (status socket) and 7 (alive pipe), and close all others."""
    # to higher numbers first, because one descriptor may occupy the place of another
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ALIVE_FD + 1) for fd in (stdin, out, out, body, status, alive)]
    for fd, number in zip(high, (0, 1, 2, _SCRIPT_FD, _STATUS_FD, _ALIVE_FD), strict=True):
        os.dup2(fd, number, inheritable=number <= _SCRIPT_FD)
    os.closerange(3, _SCRIPT_FD)
    os.closerange(_ALIVE_FD + 1, _MAX_FD)


def _limit_memory() -> None:
    """Limit each process to the machine's memory, and let the OOM killer take these processes before others.

    Their total is not limited: that takes a control group, which whoever starts compose must provide.
    """
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    _lower_limit(resource.RLIMIT_DATA, total, total)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _lower_limit(which: int, soft: int, hard: int) -> None:
    allowed = resource.getrlimit(which)[1]
    soft, hard = (limit if allowed == resource.RLIM_INFINITY else min(limit, allowed) for limit in (soft, hard))
    resource.setrlimit(which, (soft, hard))


def _drop_privileges() -> None:
    """Drop capabilities and every way to regain them, fix resource limits and reset signals."""
    os.umask(0o022)
    _lower_limit(resource.RLIMIT_NOFILE, *_OPEN_FILES)
    _lower_limit(resource.RLIMIT_NPROC, filesystems.PROCESS_LIMIT, filesystems.PROCESS_LIMIT)
    # the invoking user's groups grant nothing here, but the program would see them
    os.setgroups([0])
    # /proc/1/exe is the host's own Python, as writable as it is on the host
    kernel.hide_from_others()
    kernel.drop_capabilities()
    kernel.forbid_new_privileges()
    filter_ = seccomp.filter_for(os.uname().machine)
    if filter_ is not None:
        kernel.filter_system_calls(filter_)
    for number in _DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _execute(program: Program, epoch: int, librpm: Librpm) -> NoReturn:
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(epoch),
        # makes systemctl and similar tools change files only
        "SYSTEMD_OFFLINE": "1",
        **dict(program.environment),
    }
    try:
        if librpm.needed(program):
            os.environ.clear()
            os.environ.update(environment)
            librpm.configure(program)
            if program.expand or program.header:
                text = librpm.text_of(program).encode(errors="surrogateescape")
                os.dup2(_sealed_file("script", text), _SCRIPT_FD)
        if program.lua:
            os._exit(librpm.run(program, _SCRIPT_FD))
        script = f"/proc/self/fd/{_SCRIPT_FD}"
        argv = [script if word == "{script}" else word for word in program.argv]
        os.execve(_which(argv[0], environment["PATH"]), argv, environment)
    except OSError as error:
        os.write(2, f"{program.argv[0]}: {error.strerror}\n".encode(errors="replace"))
        os._exit(127 if error.errno == errno.ENOENT else 126)
    except BaseException as error:
        os.write(2, f"{program.argv[0]}: {type(error).__name__}: {error}\n".encode(errors="replace"))
        os._exit(125)


def _which(name: str, path: str) -> str:
    if "/" in name:
        return name
    for directory in path.split(":"):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    raise FileNotFoundError(errno.ENOENT, "not found in the tree", name)
