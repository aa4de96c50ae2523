"""What a program looks at: every path that it, or anything it starts, has the kernel look up.

The kernel stops each such system call and tells us of it; we read the path out of the caller's memory and let the call go
on as it was (seccomp_unotify(2)). This needs no privileges, and a program cannot slip out of it. Where it cannot be had, and
for a program that does what cannot be followed, there is no observation rather than a part of one.

Paths on the sandbox's own mounts (/tmp, /proc ...) say nothing of the tree, unless a symlink that the program made there leads
back into it.
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
from compose.sandbox.interpreter import interpreter_of
from compose.sandbox.lookups import (
    CALLS,
    EXCHANGE,
    LINK,
    LIST,
    LOOK,
    OPENAT2,
    READ,
    RENAMEAT2,
    RENAMES,
    ROOT,
    RUN,
    RUNS,
    SYMLINKS,
    X86_64,
)

PRIVATE = ("/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys")
"""Where the sandbox mounts something of its own (filesystems.py)."""

_BELOW_PRIVATE = tuple(f"{path}/" for path in PRIVATE)
_AT_FDCWD = 0xFFFFFF9C  # -100
_PATH_MAX = 4096
_PAGE = 4096
_PIECE = 256
_NO_ADDRESS = 1 << 63
_MAX_HOPS = 40
_MAX_INTERPRETERS = 5
"""One of the other; the kernel gives up then (exec_binprm())."""
_MOST_PROCESSES = 64
_MOST_HELD = 32 << 20
"""Characters of paths: 200 times those of a dracut. This is not the program's memory, which has its limit."""
_TELLS_THE_END = (6, 12)
"""From this Linux on at the latest, who waits for a look-up is told that nobody is left. Asking it each time before takes a
fifth of the time of a look-up."""

# linux/seccomp.h
_CONTINUE = 1
_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_EMPTY = bytes(_NOTIFICATION.size)
_RESPONSE = struct.Struct("=QqiI")

# linux/openat2.h: struct open_how, and RESOLVE_IN_ROOT of its last member
_HOW, _IN_ROOT = struct.Struct("=3Q"), 0x10

_SELF = re.compile(r"/proc/(self|thread-self|\d+)(/task/\d+)?/(root|cwd|fd/\d+/.*)")
# The same for each process: what it has open, and itself.
_OPEN = re.compile(r"(?:/proc/self|/dev)/(fd/\d+)|/proc/self/(exe)")
_DEV_FD = re.compile(r"/dev/(fd/\d+|std(in|out|err))/")
# What is above depends on which process and which descriptor are asked for.
_ABOVE = re.compile(r"/(proc|dev/fd)/(.*/)?\.\.(/|$)")
_DOTS = re.compile(r"/(\.?)(?=/)|/\.$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Absolute paths as the program gave them, symlinks not followed: looked at, read or run, and directories listed.

    names: (a name that it gave, what that led to then): of symlinks their targets, of what was moved or linked the name before.
    Paths on the sandbox's own mounts are left out. crossed: symlinks made there may lead back into the tree.
    """

    looked: frozenset[str]
    read: frozenset[str]
    listed: frozenset[str]
    names: frozenset[tuple[str, str]]
    crossed: bool


def _is_private(path: str) -> bool:
    return path.startswith(_BELOW_PRIVATE) or path in PRIVATE


def _plain(path: str) -> str:
    """The same without what is of no meaning in it."""
    return _DOTS.sub("", path) or "/" if "//" in path or "/." in path else path


def leads_astray(path: str) -> bool:
    """Does a path on the sandbox's own mounts lead elsewhere by what the kernel has in /proc?"""
    return bool(_SELF.match(path) or _DEV_FD.match(path) or _ABOVE.match(path))


@dataclass(frozen=True, slots=True)
class _Process:
    """One that is followed. place: its directory in /proc, memory: its file "mem" there, both open."""

    place: int
    memory: int

    @classmethod
    def of(cls, pid: int) -> _Process:
        place = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return cls(place, os.open("mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=place))
        except BaseException:
            os.close(place)
            raise

    def close(self) -> None:
        os.close(self.place)
        os.close(self.memory)


class Observer:
    """The side that hears, in a thread of its own: from a look-up to the next one nothing else is asked of the kernel.

    listener: of start(). root: a descriptor of the program's root directory. Both are closed by close().
    """

    def __init__(self, listener: int, root: int) -> None:
        self._listener = listener
        self._root = root
        self._paths: dict[int, set[str]] = {kind: set() for kind in (LOOK, READ, LIST)}
        # what was said of a kind already, as it was said, and would be taken no other way
        self._heard: dict[int, set[str]] = {kind: set() for kind in range(ROOT + 1)}
        self._processes: dict[int, _Process] = {}
        self._lost = False
        self._held = 0
        self._names: set[tuple[str, str]] = set()
        # a symlink on a mount of the sandbox that may lead out of it was made
        self._links_out = False
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._failure: BaseException | None = None
        with suppress(OSError):
            # one of two cores is enough for a program and us
            fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear the rest, of processes that have ended."""
        self._thread.join()
        self._forget()
        os.close(self._root)

    def observation(self) -> Observation | None:
        """All that was seen, after close(); None when the program did something that cannot be followed. Raises OSError
        when the kernel stopped telling."""
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
        """Hear look-ups and let them go on, as long as there is somebody to hear of."""
        tells_the_end = _release() >= _TELLS_THE_END
        try:
            while tells_the_end or not self._is_alone(wait=True):
                try:
                    request = fcntl.ioctl(self._listener, _RECEIVE, _EMPTY)
                except OSError as error:
                    # one was killed meanwhile, or the last one ended
                    if error.errno not in (errno.ENOENT, errno.EINTR):
                        raise
                    if self._is_alone(wait=False):
                        return
                else:
                    self._answer(request)
        except BaseException as error:
            self._failure = error
        finally:
            # whoever still waits for an answer gets ENOSYS
            os.close(self._listener)

    def _is_alone(self, *, wait: bool) -> bool:
        """Have all ended that could be heard of? wait: until they have, or one speaks."""
        return any(event & select.POLLHUP for _, event in self._poll.poll(None if wait else 0))

    def _answer(self, request: bytes) -> None:
        """Note what a process wants to look up, and let it go on."""
        number, pid, _, call, arch, _, *arguments = _NOTIFICATION.unpack(request)
        if not self._lost:
            try:
                if call == OPENAT2 and self._is_in_root(pid, arguments[2]):
                    raise ValueError
                # KeyError for what makes it lose track, and for other binary formats
                paths = [
                    self._take(pid, kind, None if directory is None else arguments[directory], arguments[argument])
                    for kind, directory, argument in CALLS[call if arch == X86_64 else -1]
                ]
                if call in SYMLINKS:
                    self._name(paths[0], self._string(pid, arguments[0]))
                elif call in RENAMES:
                    self._name(paths[1], paths[0])
                    if call == RENAMEAT2 and arguments[4] & EXCHANGE:
                        self._name(paths[0], paths[1])
            except (FileNotFoundError, ProcessLookupError):
                # no such descriptor, or no such process any more: nothing is looked up
                pass
            except (KeyError, OSError, ValueError):
                self._lose()
            if call in RUNS:
                # it has another memory from then on, and the one that was opened may be another's too
                self._forget()
        try:
            fcntl.ioctl(self._listener, _SEND, _RESPONSE.pack(number, 0, 0, _CONTINUE))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _lose(self) -> None:
        """What the program does cannot be followed any more; what it did is of no use."""
        self._lost = True
        for each in (*self._paths.values(), *self._heard.values()):
            each.clear()
        self._names.clear()

    def _name(self, new: str | None, old: str | None) -> None:
        """A path becomes a name of another, or of a symlink's target."""
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
            self._hold(len(new) + len(old))

    def _hold(self, characters: int) -> None:
        self._held += characters
        if self._held > _MOST_HELD:
            raise ValueError("a program that looks everywhere")

    def _is_in_root(self, pid: int, how: int) -> bool:
        """Does openat2() take a directory for the root?"""
        _, _, resolve = _HOW.unpack(self._read(pid, _HOW.size, how))
        return bool(resolve & _IN_ROOT)

    def _take(self, pid: int, kind: int, directory: int | None, argument: int) -> str | None:
        """Note a look-up; the absolute path, None when none is given."""
        if kind == LIST:
            path = self._link(pid, f"fd/{argument & 0xFFFFFFFF}")
        else:
            path = self._string(pid, argument)
            if not path:
                # the descriptor itself, whose path was seen when it was opened; or a fault
                if kind == RUN and directory is not None:
                    self._run(pid, f"/dev/{_link_of(directory)}")
                return None
            if path[0] != "/":
                above = self._link(pid, "cwd" if directory is None else _link_of(directory))
                if above[0] != "/":
                    return None
                path = f"{above}/{path}"
        if kind == RUN:
            kind = READ
            # it may be another file each time
            self._run(pid, _plain(path))
        heard = self._heard[kind]
        if path in heard:
            return path
        said = path
        path = _plain(path)
        private = _is_private(path)
        if kind == ROOT:
            if not private:
                raise ValueError(path)
            return path
        if kind == LINK:
            kind = LOOK
            if private:
                self._links_out = True
                # they may lead elsewhere from now on
                for each in self._heard.values():
                    each.clear()
        if self._note(kind, path, 0):
            heard.add(said)
            self._hold(len(said))
        return path

    def _run(self, pid: int, path: str) -> None:
        """Note the interpreter of what a process is about to become, and that one's: the kernel opens them by itself, and
        what it was told to run may be a file that nobody finds later. Raises OSError, ValueError."""
        for _ in range(_MAX_INTERPRETERS):
            try:
                fd = self._open_program(pid, path)
            except (FileNotFoundError, NotADirectoryError):
                if _is_private(path):
                    # or it is there for the process alone
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
            path = _plain(interpreter)
            if path not in self._paths[READ]:
                self._note(READ, path, 0)
                self._hold(len(path))

    def _open_program(self, pid: int, path: str) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK
        if own := _OPEN.fullmatch(path):
            return os.open(own[1] or own[2], flags | os.O_CLOEXEC, dir_fd=self._process(pid).place)
        return syscalls.open_in_root(self._root, path, flags)

    def _note(self, kind: int, path: str, hops: int) -> bool:
        """Note where a path leads; does it lead there always?"""
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
        """A path that begins on a mount of the sandbox, and may lead back into the tree."""
        above, name, rest = path, "", ""
        while (fd := self._open(above or "/")) is None:
            # what is missing is missing from the directory that is there
            rest = f"/{name}{rest}" if name else rest
            above, _, name = above.rpartition("/")
        try:
            place = os.readlink(f"/proc/self/fd/{fd}")
            if not _is_private(place):
                self._paths[kind].add(f"{place}/{name}{rest}" if name else place)
            elif name:
                # or it is behind a symlink that leads nowhere yet
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
        """The path at an address of a process; "" for one that it has not got. Raises OSError, ValueError."""
        if not address:
            return ""
        found = b""
        while len(found) < _PATH_MAX:
            at = address + len(found)
            # no further than the page, for the next one may not be there
            try:
                piece = self._read(pid, min(_PIECE, _PAGE - at % _PAGE), at)
            except OSError as error:
                if error.errno in (errno.EIO, errno.EFAULT):
                    return ""
                raise
            end = piece.find(0)
            if end >= 0:
                return os.fsdecode(found + piece[:end])
            found += piece
        return ""

    def _read(self, pid: int, size: int, address: int) -> bytes:
        """Of the memory of a process. Raises OSError."""
        if address >= _NO_ADDRESS:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        for _ in range(2):
            if piece := os.pread(self._process(pid).memory, size, address):
                return piece
            # it has ended, and this is another one of its number
            self._forget()
        raise ProcessLookupError

    def _link(self, pid: int, name: str) -> str:
        """Where a link in the directory of a process leads."""
        try:
            return os.readlink(name, dir_fd=self._process(pid).place)
        except (FileNotFoundError, ProcessLookupError):
            # as above
            self._forget()
            return os.readlink(name, dir_fd=self._process(pid).place)

    def _process(self, pid: int) -> _Process:
        process = self._processes.get(pid)
        if process is None:
            if len(self._processes) >= _MOST_PROCESSES:
                self._forget()
            process = self._processes[pid] = _Process.of(pid)
        return process

    def _forget(self) -> None:
        """Close what is open of all processes."""
        for each in self._processes.values():
            each.close()
        self._processes.clear()


def _release() -> tuple[int, int]:
    """Of the kernel."""
    major, minor = re.match(r"(\d+)\.(\d+)", os.uname().release).groups()  # type: ignore[union-attr]
    return int(major), int(minor)


def _link_of(descriptor: int) -> str:
    """Of a directory in which a path is looked up, in /proc/PID. descriptor: as the register has it."""
    fd = descriptor & 0xFFFFFFFF
    return "cwd" if fd == _AT_FDCWD else f"fd/{fd}"
