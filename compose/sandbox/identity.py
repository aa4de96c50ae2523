"""Whose root the sandbox has: this machine's own, or one of a user namespace.

    root where mounts are allowed       its own namespaces, no user namespace
    root without CAP_SYS_ADMIN          a user namespace in which every id is itself (in a container)
    anybody else                        a user namespace: 0 is the user, 1... are the user's subordinate ids

Subordinate ids are those of subuid(5) and subgid(5); newuidmap(1) and newgidmap(1), which are setuid root, give them. Every
id of an operating system must be there, for programs chown files to them: with fewer, owners would be lost.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from compose import fs
from compose.errors import SandboxError
from compose.interpreter import python
from compose.sandbox import kernel
from compose.sandbox.refusal import Machine, Step, read_text, refused

NEEDED_IDS = 65535
"""Ids 0 to 65534: nobody's is the last."""
_SUBORDINATES = ((os.geteuid, "/etc/subuid", "newuidmap"), (os.getegid, "/etc/subgid", "newgidmap"))
_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_REMOVER = "from compose import fs; from compose.sandbox import identity; identity.enter(); fs.remove_tree(sys.argv[1])"


Range = tuple[int, int]
"""(first id, count)."""


class Identity(enum.Enum):
    """Best to follow what happens first; all give the same trees."""

    ROOT = "root namespaces"
    USER = "user namespace"


def enter() -> Identity:
    """Bring this process, which must have one thread only, into a mount namespace in which it may mount, as root.

    Its real ids stay; root's files there are those that it owned before. Raises SandboxError with the way out.
    """
    identity = Identity.ROOT
    if os.geteuid() or not _own_mounts():
        identity = Identity.USER
        _enter_user_namespace()
        # the user's groups stay: the way to the cachedir may need one
        with _asked_for(Step.NAMESPACE):
            kernel.unshare(kernel.CLONE_NEWNS)
    count = ids_from_zero(read_text("/proc/self/uid_map")), ids_from_zero(read_text("/proc/self/gid_map"))
    if min(count) < NEEDED_IDS:
        raise SandboxError(
            f"only the ids 0 to {min(count) - 1} are there for what packages own; 0 to {NEEDED_IDS - 1} are needed",
            hint="map more where this user namespace is made, or compose outside of it",
        )
    with _asked_for(Step.MOUNT):
        kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    return identity


def renew() -> NoReturn:
    """Run this Python program again, with the same arguments and standard descriptors; for a process that entered a user
    namespace.

    The memory of a process belongs to the user namespace in which its program began (mm->user_ns in Linux). If that was the
    one outside, nobody but this machine's root may look at what hides (PR_SET_DUMPABLE), as programs that librpm runs do;
    children of a process that began inside hide from each other, and not from it.
    """
    os.execv(sys.executable, sys.orig_argv)


def remove_tree(path: str) -> None:
    """fs.remove_tree() of what was made in a user namespace, too: only in one may the user remove it.

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
        raise SandboxError(f"{path} holds what only a user namespace can remove: {reason}")


def subordinate_ranges(text: str, names: Sequence[str]) -> tuple[Range, ...]:
    """Ranges that a subuid(5) file gives to a user, known by any of its names (login, number), in order."""
    found = []
    for line in text.splitlines():
        fields = line.split("#")[0].strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            found.append((int(fields[1]), int(fields[2])))
    return tuple(found)


def ids_from_zero(id_map: str) -> int:
    """How many ids from 0 on, without a gap, /proc/PID/uid_map has (user_namespaces(7))."""
    count = 0
    for inside, _, length in sorted(tuple(map(int, line.split())) for line in id_map.splitlines()):
        if inside > count:
            break
        count = max(count, inside + length)
    return count


def _own_mounts() -> bool:
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
    except PermissionError:
        return False
    return True


def _enter_user_namespace() -> None:
    """A child makes the namespace, this process gives it its ids and follows: only from outside can ids be given."""
    give = _same_ids if not os.geteuid() else _subordinate_ids()
    with _child_in_user_namespace() as child:
        give(child)
        with _asked_for(Step.NAMESPACE):
            namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            try:
                kernel.enter_namespace(namespace, kernel.CLONE_NEWUSER)
            finally:
                os.close(namespace)


@contextlib.contextmanager
def _child_in_user_namespace() -> Iterator[int]:
    """pid of a child that has made a user namespace and waits."""
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


def _same_ids(child: int) -> None:
    with _asked_for(Step.MAPPING):
        for name in ("uid_map", "gid_map"):
            lines = [line.split() for line in read_text(f"/proc/self/{name}").splitlines()]
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write("".join(f"{inside} {inside} {count}\n" for inside, _, count in lines))


def _subordinate_ids() -> Callable[[int], None]:
    """What gives a process the caller's ids. Raises SandboxError."""
    commands = []
    for own, file, program in _SUBORDINATES:
        triples = [0, own(), 1]
        inside = 1
        for first, count in subordinates(file):
            triples += [inside, first, count]
            inside += count
        commands.append((_program(program), tuple(map(str, triples))))

    def give(child: int) -> None:
        for program, triples in commands:
            done = subprocess.run(
                [program, str(child), *triples],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode:
                said = done.stdout.decode(errors="replace").strip().removeprefix(f"{os.path.basename(program)}: ")
                raise refused(Step.MAPPING, f"{os.path.basename(program)}: {said}", Machine.here())

    return give


def subordinates(file: str) -> tuple[Range, ...]:
    """The caller's ranges in a subuid(5) file. Raises SandboxError when they are too few."""
    names = _names()
    ranges = subordinate_ranges(read_text(file), names)
    if sum(count for _, count in ranges) < NEEDED_IDS - 1:
        raise refused(Step.SUBORDINATES, f"{file} gives {names[0]} too few ids", Machine.here(), user=names[0])
    return ranges


def _program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise refused(Step.PROGRAM, f"{name} is not installed", Machine.here())
    return found


def obstacles() -> tuple[SandboxError, ...]:
    """All that keeps an ordinary user from a user namespace, each found by trying; enter() tells the first. None for root."""
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
def _asked_for(step: Step) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise refused(step, error, Machine.here()) from error
