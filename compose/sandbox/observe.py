"""Observes every path that a program, or anything it starts, has the kernel look up.

The kernel suspends each such system call and notifies the observer, which reads the path from the caller's memory and lets the
call continue unchanged (seccomp_unotify(2)). This needs no privileges. A program deceives it only by changing a path in memory
between the observer's look and the kernel's, and gains nothing but that its own run may be replayed where it would have to run.
If the kernel lacks support, or the program does something that cannot be followed, there is no observation at all rather than
an incomplete one.

Paths on the sandbox's own mounts (/tmp, /proc ...) say nothing about the tree, unless a symlink that the program made there
leads back into it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass

from compose import syscalls
from compose.sandbox import kernel
from compose.sandbox.interpreter import interpreter_of
from compose.sandbox.lookups import (
    CALLS,
    EXCHANGE,
    LINK,
    LIST,
    LOOK,
    READ,
    RENAMES,
    ROOT,
    RUN,
    RUNS,
    SYMLINKS,
    abi_of,
)

PRIVATE = ("/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys")
"""The sandbox's own mounts (filesystems.py)."""

_BELOW_PRIVATE = tuple(f"{path}/" for path in PRIVATE)
_AT_FDCWD = 0xFFFFFF9C  # -100
_PATH_MAX = 4096
_PAGE = 4096
_CHUNK = 256
_NO_ADDRESS = 1 << 63
_MAX_HOPS = 40
_MAX_INTERPRETERS = 5
"""How often an interpreter may itself have one before the kernel gives up (exec_binprm())."""
_MAX_PROCESSES = 64
_MAX_CHARACTERS = 32 << 20
"""Limit for the recorded paths, 200 times what dracut needs; they are not covered by the program's own memory limit."""
_RECEIVE_ENDS = (6, 12)
"""From this version of Linux on (at the latest), waiting for a notification ends when no observed process is left. Polling
before each wait instead takes a fifth of the time of a lookup."""

# linux/seccomp.h
_CONTINUE = 1
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
# _IOW of asm-generic/ioctl.h, and of powerpc's own
_SET_FLAGS = 0x80082104 if os.uname().machine == "ppc64le" else 0x40082104
_SYNC_WAKE_UP = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_EMPTY = bytes(_NOTIFICATION.size)
_RESPONSE = struct.Struct("=QqiI")

# linux/openat2.h: struct open_how, and RESOLVE_IN_ROOT of its last member
_OPEN_HOW, _IN_ROOT = struct.Struct("=3Q"), 0x10

_SELF = re.compile(r"/proc/(self|thread-self|\d+)(/task/\d+)?/(root|cwd|fd/\d+/.*)")
# Files that each process sees differently: its descriptors and its executable.
_OWN_FILE = re.compile(r"(?:/proc/self|/dev)/(fd/\d+)|/proc/self/(exe)")
_DEV_FD = re.compile(r"/dev/(fd/\d+|std(in|out|err))/")
# The parent depends on the process and descriptor.
_PARENT = re.compile(r"/(proc|dev/fd)/(.*/)?\.\.(/|$)")
_REDUNDANT = re.compile(r"/(\.?)(?=/)|/\.$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The paths that a program looked up: absolute, as it gave them, symlinks not followed.

    looked: looked up only. read: opened, executed or hard-linked. listed: directories listed. names: (new path, what it named):
    a symlink and its target, or the new and old name of a file renamed or hard-linked. Paths on the sandbox's own mounts are
    left out. crossed: symlinks made on those mounts may lead back into the tree.
    """

    looked: frozenset[str]
    read: frozenset[str]
    listed: frozenset[str]
    names: frozenset[tuple[str, str]]
    crossed: bool


def _is_private(path: str) -> bool:
    return path.startswith(_BELOW_PRIVATE) or path in PRIVATE


def _simplified(path: str) -> str:
    """The path without repeated slashes and "." components."""
    return _REDUNDANT.sub("", path) or "/" if "//" in path or "/." in path else path


def leads_astray(path: str) -> bool:
    """Does a path on the sandbox's own mounts lead elsewhere through one of the kernel's links in /proc?"""
    return bool(_SELF.match(path) or _DEV_FD.match(path) or _PARENT.match(path))


@dataclass(frozen=True, slots=True)
class _Process:
    """Open descriptors of an observed process. directory: /proc/PID. memory: /proc/PID/mem."""

    directory: int
    memory: int

    @classmethod
    def of(cls, pid: int) -> _Process:
        """Open them. Raises OSError."""
        directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return cls(directory, os.open("mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory))
        except BaseException:
            os.close(directory)
            raise

    def close(self) -> None:
        os.close(self.directory)
        os.close(self.memory)


class Observer:
    """Receives notifications and answers them, in a thread of its own.

    listener: from lookups.start(). root: a descriptor of the program's root directory. close() closes both.
    """

    def __init__(self, listener: int, root: int) -> None:
        abi = abi_of(os.uname().machine)
        assert abi is not None
        self._abi = abi
        self._listener = listener
        self._root = root
        self._paths: dict[int, set[str]] = {kind: set() for kind in (LOOK, READ, LIST)}
        # paths by kind, verbatim, that are recorded already and would be recorded the same way again
        self._known: dict[int, set[str]] = {kind: set() for kind in range(ROOT + 1)}
        self._processes: dict[int, _Process] = {}
        self._lost = False
        self._characters = 0
        self._names: set[tuple[str, str]] = set()
        # was a symlink made on one of the sandbox's mounts, which may lead out of it?
        self._links_out = False
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._failure: BaseException | None = None
        with suppress(OSError):
            # program and observer take turns, so one core is enough for both
            fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until the observed processes have ended and their last lookups are recorded."""
        self._thread.join()
        self._forget()
        os.close(self._root)

    def observation(self) -> Observation | None:
        """What was observed, after close(); None if the program did something that cannot be followed.

        Raises OSError if receiving notifications failed.
        """
        if self._failure is not None:
            raise self._failure
        if self._lost:
            return None
        return Observation(
            looked=frozenset(self._paths[LOOK]),
            read=frozenset(self._paths[READ]),
            listed=frozenset(self._paths[LIST]),
            names=frozenset(self._names),
            crossed=self._links_out,
        )

    def _listen(self) -> None:
        """Record lookups and let them continue, until all observed processes have ended."""
        receive_ends = kernel.release() >= _RECEIVE_ENDS
        try:
            while receive_ends or not self._all_ended(wait=True):
                try:
                    request = fcntl.ioctl(self._listener, _RECEIVE, _EMPTY)
                except OSError as error:
                    # the caller was killed meanwhile, or the last process ended
                    if error.errno not in (errno.ENOENT, errno.EINTR):
                        raise
                    if self._all_ended(wait=False):
                        return
                else:
                    self._answer(request)
        except BaseException as error:
            self._failure = error
        finally:
            # calls still waiting for an answer fail with ENOSYS
            os.close(self._listener)

    def _all_ended(self, *, wait: bool) -> bool:
        """Have all observed processes ended? wait: until they have or a notification arrives."""
        return any(event & select.POLLHUP for _, event in self._poll.poll(None if wait else 0))

    def _answer(self, request: bytes) -> None:
        """Record a lookup and let the system call continue."""
        cookie, pid, _, number, arch, _, *arguments = _NOTIFICATION.unpack(request)
        call = self._abi.names.get(number, "") if arch == self._abi.arch else ""
        if not self._lost:
            try:
                if call == "openat2" and self._is_in_root(pid, arguments[2]):
                    raise ValueError
                # KeyError for untraceable and unknown calls, and for other binary formats
                paths = [
                    self._record(pid, kind, None if directory is None else arguments[directory], arguments[argument])
                    for kind, directory, argument in CALLS[call]
                ]
                if call in SYMLINKS:
                    self._record_name(paths[0], self._string(pid, arguments[0]))
                elif call in RENAMES:
                    self._record_name(paths[1], paths[0])
                    if call == "renameat2" and arguments[4] & EXCHANGE:
                        self._record_name(paths[0], paths[1])
            except (FileNotFoundError, ProcessLookupError):
                # no such descriptor, or the process is gone: nothing is looked up
                pass
            except (KeyError, OSError, ValueError):
                self._give_up()
            if call in RUNS:
                # exec replaces the memory, and after vfork() the one that is open may be the parent's
                self._forget()
        try:
            fcntl.ioctl(self._listener, _SEND, _RESPONSE.pack(cookie, 0, 0, _CONTINUE))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _give_up(self) -> None:
        """Discard the observation: the program can no longer be followed."""
        self._lost = True
        for recorded in (*self._paths.values(), *self._known.values()):
            recorded.clear()
        self._names.clear()

    def _record_name(self, new: str | None, old: str | None) -> None:
        """Record that path `new` now names what `old`, a path or a symlink's target, names. Raises ValueError."""
        if not new or not old:
            return
        if _is_private(new):
            new = os.path.normpath(new)
            if _is_private(new):
                return
        if old[0] != "/":
            old = f"{new.rpartition('/')[0]}/{old}"
        if (new, old) not in self._names:
            self._names.add((new, old))
            self._count(len(new) + len(old))

    def _count(self, characters: int) -> None:
        self._characters += characters
        if self._characters > _MAX_CHARACTERS:
            raise ValueError("too many paths")

    def _is_in_root(self, pid: int, address: int) -> bool:
        """Does the struct open_how at an address ask openat2() to treat the directory as root?"""
        _, _, resolve = _OPEN_HOW.unpack(self._read(pid, _OPEN_HOW.size, address))
        return bool(resolve & _IN_ROOT)

    def _record(self, pid: int, kind: int, directory: int | None, argument: int) -> str | None:
        """Record a lookup and return its absolute path; None if the call gives no path. Raises OSError, ValueError."""
        if kind == LIST:
            path = self._link(pid, f"fd/{argument & 0xFFFFFFFF}")
        else:
            path = self._string(pid, argument)
            if not path:
                # the descriptor itself, whose path was recorded when it was opened; or a bad address
                if kind == RUN and directory is not None:
                    self._record_interpreters(pid, f"/dev/{_link_of(directory)}")
                return None
            if path[0] != "/":
                base = self._link(pid, "cwd" if directory is None else _link_of(directory))
                if base[0] != "/":
                    return None
                path = f"{base}/{path}"
        if kind == RUN:
            kind = READ
            # on each exec, since the file may have changed
            self._record_interpreters(pid, _simplified(path))
        known = self._known[kind]
        if path in known:
            return path
        verbatim = path
        path = _simplified(path)
        private = _is_private(path)
        if kind == ROOT:
            if not private:
                raise ValueError(path)
            return path
        if kind == LINK:
            kind = LOOK
            if private:
                self._links_out = True
                # known paths may lead elsewhere from now on
                for paths in self._known.values():
                    paths.clear()
        if self._note(kind, path, 0):
            known.add(verbatim)
            self._count(len(verbatim))
        return path

    def _record_interpreters(self, pid: int, path: str) -> None:
        """Record the interpreter of a program about to be executed, that interpreter's own, and so on.

        The kernel opens them by itself, and the program may be a temporary file that cannot be examined later. Raises OSError,
        ValueError.
        """
        for _ in range(_MAX_INTERPRETERS):
            try:
                fd = self._open_program(pid, path)
            except (FileNotFoundError, NotADirectoryError):
                if _is_private(path):
                    # it may exist for this process only
                    raise ValueError(path) from None
                return
            try:
                interpreter = interpreter_of(fd)
            finally:
                os.close(fd)
            if interpreter is None:
                return
            if interpreter[:1] != "/":
                raise ValueError(interpreter)
            path = _simplified(interpreter)
            if path not in self._paths[READ]:
                self._note(READ, path, 0)
                self._count(len(path))

    def _open_program(self, pid: int, path: str) -> int:
        # it may be a terminal, whose other end the program has
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        if own := _OWN_FILE.fullmatch(path):
            return os.open(own[1] or own[2], flags | os.O_CLOEXEC, dir_fd=self._process(pid).directory)
        return syscalls.open_in_root(self._root, path, flags)

    def _note(self, kind: int, path: str, hops: int) -> bool:
        """Record where a path leads in the tree; True if it will always lead there. Raises ValueError."""
        if not _is_private(path):
            self._paths[kind].add(path)
            return True
        if leads_astray(path):
            raise ValueError(path)
        if not self._links_out and "/.." not in path:
            return True
        if hops < _MAX_HOPS:
            self._follow(kind, path, hops)
        return False

    def _follow(self, kind: int, path: str, hops: int) -> None:
        """Record where a path that begins on one of the sandbox's mounts leads, if that is in the tree."""
        parent, name, rest = path, "", ""
        while (fd := self._open(parent or "/")) is None:
            # find the nearest ancestor that exists
            rest = f"/{name}{rest}" if name else rest
            parent, _, name = parent.rpartition("/")
        try:
            place = os.readlink(f"/proc/self/fd/{fd}")
            if not _is_private(place):
                self._paths[kind].add(f"{place}/{name}{rest}" if name else place)
            elif name:
                # a dangling symlink may lead into the tree
                with suppress(OSError):
                    self._note(kind, os.path.join(place, os.readlink(name, dir_fd=fd)) + rest, hops + 1)
        finally:
            os.close(fd)

    def _open(self, path: str) -> int | None:
        try:
            return syscalls.open_in_root(self._root, path, os.O_PATH)
        except OSError:
            return None

    def _string(self, pid: int, address: int) -> str:
        """The string at an address of a process; "" if the address is invalid. Raises OSError."""
        if not address:
            return ""
        found = b""
        while len(found) < _PATH_MAX:
            at = address + len(found)
            # not past the end of the page, because the next one may not be mapped
            try:
                chunk = self._read(pid, min(_CHUNK, _PAGE - at % _PAGE), at)
            except OSError as error:
                if error.errno in (errno.EIO, errno.EFAULT):
                    return ""
                raise
            end = chunk.find(0)
            if end >= 0:
                return os.fsdecode(found + chunk[:end])
            found += chunk
        return ""

    def _read(self, pid: int, size: int, address: int) -> bytes:
        """Bytes of a process's memory, at least one. Raises OSError."""
        address &= (1 << self._abi.address_bits) - 1
        if address >= _NO_ADDRESS:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        for _ in range(2):
            if data := os.pread(self._process(pid).memory, size, address):
                return data
            # that process has ended, and its pid was reused
            self._forget()
        raise ProcessLookupError

    def _link(self, pid: int, name: str) -> str:
        """Target of a link in /proc/PID. Raises OSError."""
        try:
            return os.readlink(name, dir_fd=self._process(pid).directory)
        except (FileNotFoundError, ProcessLookupError):
            # the pid may have been reused
            self._forget()
            return os.readlink(name, dir_fd=self._process(pid).directory)

    def _process(self, pid: int) -> _Process:
        process = self._processes.get(pid)
        if process is None:
            if len(self._processes) >= _MAX_PROCESSES:
                self._forget()
            process = self._processes[pid] = _Process.of(pid)
        return process

    def _forget(self) -> None:
        """Close the descriptors of all processes."""
        for process in self._processes.values():
            process.close()
        self._processes.clear()


def _link_of(descriptor: int) -> str:
    """Name in /proc/PID of the link to the directory behind a descriptor argument, given as its raw register value."""
    fd = descriptor & 0xFFFFFFFF
    return "cwd" if fd == _AT_FDCWD else f"fd/{fd}"
