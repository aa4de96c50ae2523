"""Becoming root in the sandbox: the machine's own root, or root of a user namespace.

    root that may mount                 its own namespaces, no user namespace
    root without CAP_SYS_ADMIN          a user namespace with an identity mapping (in a container)
    root where emulators are installed  the same, to hide them (see handlers.py)
    root that needs an emulator         the same, to have it in this namespace only (see emulation.py)
    anybody else                        a user namespace: 0 is the user, 1... are the user's subordinate ids

Subordinate ids are those of subuid(5) and subgid(5); newuidmap(1) and newgidmap(1), which are setuid root, map them. All ids
that an operating system uses must be mapped, because programs chown files to them: with fewer, owners would be lost.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import pwd
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from compose import fs
from compose.errors import SandboxError
from compose.interpreter import python
from compose.sandbox import emulation, handlers, kernel
from compose.sandbox.refusal import Machine, Step, read_text, refused

NEEDED_IDS = 65535
"""Ids 0 to 65534; the last is nobody's."""
_SUBORDINATES = ((os.geteuid, "/etc/subuid", "newuidmap"), (os.getegid, "/etc/subgid", "newgidmap"))
_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_REMOVER = "from compose import fs; from compose.sandbox import identity; identity.enter(); fs.remove_tree(sys.argv[1])"


Range = tuple[int, int]
"""(first id, count)."""


class Identity(enum.Enum):
    """How the sandbox got its root, easiest to debug first; both give the same trees."""

    ROOT = "root namespaces"
    USER = "user namespace"


def enter(foreign: str | None = None) -> Identity:
    """Move this process, which must be single-threaded, into a mount namespace in which it is root and may mount, and in
    which its Python is read-only after renew().

    Its real ids stay: files it owned before are root's there. foreign: another architecture than this machine's, of which
    programs are to run. Raises SandboxError with a remedy.
    """
    # before the user namespace, in which nobody may raise it from 0
    _limit_core_dumps()
    identity, root = Identity.ROOT, not os.geteuid()
    own_mounts = root and _own_mounts()
    # those of the machine's root are out of an ordinary user's reach
    emulator = handlers.reachable() if root else None
    if emulator is not None:
        handlers.check_hideable(emulator)
    if not own_mounts or emulator is not None or foreign:
        identity = Identity.USER
        _enter_user_namespace()
        # the user's groups stay, since access to the cachedir may depend on one
        with _refusals_of(Step.NAMESPACE):
            kernel.unshare(kernel.CLONE_NEWNS)
    count = ids_from_zero(read_text("/proc/self/uid_map")), ids_from_zero(read_text("/proc/self/gid_map"))
    if min(count) < NEEDED_IDS:
        mapped = f"only ids 0 to {min(count) - 1} are" if min(count) else "id 0 is not"
        raise SandboxError(
            f"{mapped} mapped for file owners; 0 to {NEEDED_IDS - 1} are needed",
            hint="map more ids where this user namespace is created, or compose outside of it",
        )
    with _refusals_of(Step.MOUNT):
        kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        _protect(os.path.realpath(sys.executable))
        if identity is Identity.USER:
            try:
                handlers.hide()
            except OSError:
                if root or foreign:
                    raise
        if foreign:
            emulation.emulate(foreign)
    return identity


def become_root() -> None:
    """If an ordinary user runs this program, which must be single-threaded, re-exec it as root of a user namespace.

    Files can have any owner there, and the user's own are root's. Raises SandboxError with a remedy.
    """
    if os.geteuid():
        _enter_user_namespace()
        renew()


def renew() -> NoReturn:
    """Re-exec this Python program, arguments and standard descriptors unchanged, after enter(), which protects it.

    A program running in librpm still is this one: through /proc/self/exe it could chmod the host's Python, even make it setuid.
    Which mount that file is on is decided by exec.

    A process's memory belongs to the user namespace in which it was exec'd (mm->user_ns in Linux). If that is the outer one,
    only the machine's root may inspect its non-dumpable children (PR_SET_DUMPABLE), such as programs running in librpm.
    Children of a process exec'd inside hide from each other, but not from it.
    """
    os.execv(sys.executable, sys.orig_argv)


def remove_tree(path: str) -> None:
    """fs.remove_tree(), also for files created in a user namespace, which the user can only remove from within one.

    Raises OSError, SandboxError.
    """
    try:
        fs.remove_tree(path)
        return
    except PermissionError:
        if not os.geteuid():
            raise
    done = subprocess.run(
        python(_REMOVER, path),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        # the last line of a traceback
        reason = done.stderr.strip().rpartition("\n")[2].partition(": ")[2]
        raise SandboxError(f"{path} holds files that can only be removed in a user namespace: {reason}")


def subordinate_ranges(text: str, names: Sequence[str]) -> tuple[Range, ...]:
    """Ranges that the text of a subuid(5) file grants to a user, in order. names: the user's login name and uid."""
    found = []
    for line in text.splitlines():
        fields = line.split("#")[0].strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            found.append((int(fields[1]), int(fields[2])))
    return tuple(found)


def ids_from_zero(id_map: str) -> int:
    """Count the ids that a /proc/PID/uid_map (user_namespaces(7)) maps from 0 on without a gap."""
    count = 0
    for inside, _, length in sorted(tuple(map(int, line.split())) for line in id_map.splitlines()):
        if inside > count:
            break
        count = max(count, inside + length)
    return count


def _limit_core_dumps() -> None:
    """Set the limit of core dumps to 1 byte for this process and all that it starts, unless it is 0 and may not be raised.

    With 0, a program that the host's core_pattern names would get the dump, as root and outside of the sandbox; with 1 it is
    not started (coredump_pipe() in the kernel's fs/coredump.c), and no file is written either.
    """
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def _protect(file: str) -> None:
    """Make a file read-only in this mount namespace, its owner and mode too. Raises OSError."""
    kernel.mount(file, file, flags=kernel.MS_BIND)
    # a user namespace may not clear the flags of the host's mount; statvfs(3) has the same values
    kept = os.statvfs(file).f_flag & (kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.mount("", file, flags=kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | kept)


def _own_mounts() -> bool:
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
    except PermissionError:
        return False
    except OSError as error:
        raise refused(Step.NAMESPACE, error, Machine.here()) from error
    with _refusals_of(Step.MOUNT):
        kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    return True


def _enter_user_namespace() -> None:
    """Have a child create the namespace, map its ids and join it: ids can only be mapped from outside."""
    map_ids = _map_identity if not os.geteuid() else _subordinate_mapper()
    with _child_in_user_namespace() as child:
        map_ids(child)
        with _refusals_of(Step.NAMESPACE):
            namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            try:
                kernel.enter_namespace(namespace, kernel.CLONE_NEWUSER)
            finally:
                os.close(namespace)


@contextlib.contextmanager
def _child_in_user_namespace() -> Iterator[int]:
    """Yield the pid of a child that waits in a new user namespace. Raises SandboxError."""
    read, write = os.pipe()
    stay, leave = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(leave)
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(write, b"0")
            os.read(stay, 1)
        except OSError as error:
            os.write(write, b"%d" % (error.errno or errno.EPERM))
        finally:
            os._exit(0)
    os.close(write)
    os.close(stay)
    try:
        number = int(os.read(read, 16) or errno.EPERM)
        if number:
            raise refused(Step.NAMESPACE, OSError(number, os.strerror(number)), Machine.here())
        yield child
    finally:
        os.close(leave)
        os.close(read)
        os.waitpid(child, 0)


def _map_identity(child: int) -> None:
    with _refusals_of(Step.MAPPING):
        for name in ("uid_map", "gid_map"):
            lines = [line.split() for line in read_text(f"/proc/self/{name}").splitlines()]
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write("".join(f"{inside} {inside} {count}\n" for inside, _, count in lines))


def _subordinate_mapper() -> Callable[[int], None]:
    """Return a function that maps the caller's subordinate ids for a process. Both raise SandboxError."""
    commands = []
    for own, file, program in _SUBORDINATES:
        triples = [0, own(), 1]
        inside = 1
        for first, count in subordinates(file):
            triples += [inside, first, count]
            inside += count
        commands.append((_program(program), tuple(map(str, triples))))

    def map_ids(child: int) -> None:
        for program, triples in commands:
            done = subprocess.run(
                [program, str(child), *triples],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode:
                name = os.path.basename(program)
                output = done.stdout.decode(errors="replace").strip().removeprefix(f"{name}: ")
                raise refused(Step.MAPPING, f"{name}: {output}", Machine.here())

    return map_ids


def subordinates(file: str) -> tuple[Range, ...]:
    """The caller's ranges in a subuid(5) file. Raises SandboxError if they hold too few ids."""
    names = _names()
    ranges = subordinate_ranges(read_text(file), names)
    if sum(count for _, count in ranges) < NEEDED_IDS - 1:
        raise refused(Step.SUBORDINATES, f"{file} grants {names[0]} too few", Machine.here(), user=names[0])
    return ranges


def _program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise refused(Step.PROGRAM, f"{name} is not installed", Machine.here())
    return found


def obstacles() -> tuple[SandboxError, ...]:
    """Everything that keeps an ordinary user from a user namespace, found by trying; empty for root.

    enter() raises only the first.
    """
    found = []

    def attempt(function: Callable[..., object], *arguments: str) -> None:
        try:
            function(*arguments)
        except SandboxError as error:
            found.append(error)

    def make_namespace() -> None:
        with _child_in_user_namespace():
            pass

    if os.geteuid():
        for _, file, program in _SUBORDINATES:
            attempt(subordinates, file)
            attempt(_program, program)
        attempt(make_namespace)
    return tuple(found)


def _names() -> tuple[str, ...]:
    number = str(os.getuid())
    try:
        return pwd.getpwuid(os.getuid()).pw_name, number
    except KeyError:
        return (number,)


@contextlib.contextmanager
def _refusals_of(step: Step) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refused(step, error, Machine.here()) from error
