"""The process that holds a workroot's mount namespace: mounts the overlay, runs programs, changes files.

Requests are pickled (method, arguments) on its standard input, answers pickled on its standard output; it was started
by, and talks to, nobody but LiveRoot. It is single-threaded, for it forks. Its mounts are in a namespace of its own and go
when it goes, however that happens.
"""

from __future__ import annotations

import contextlib
import enum
import os
import pickle
import signal
import stat
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from compose import fs, syscalls
from compose.blobs import BlobStore
from compose.errors import ComposeError, SandboxError, StorageError
from compose.process import Program, ProgramRecord
from compose.sandbox import child, identity, kernel, lua
from compose.sandbox.identity import Identity
from compose.sandbox.observe import Observation
from compose.sandbox.refusal import Machine, Step, remedy
from compose.tree import Entry, name_of, parent_of
from compose.workroot.layer import Change, Layer, Stamp
from compose.workroot.materialise import kept_xattrs, make_file
from compose.workroot.merge import Update

# index=on lets a write to one path show on another that shares the lower inode, which blobs do. volatile: what a program
# syncs is thrown away with the root.
_OPTIONS = "lowerdir=lower,upperdir=layers/upper,workdir=layers/work,index=off,metacopy=off,xino=off,volatile"
# Where the overlay keeps its notes, and what makes it do so: outside of the first user namespace nobody has trusted.*.
# userxattr is redirect_dir=off, and refuses to be told so.
_NOTES = (("trusted.overlay.compose", "redirect_dir=nofollow"), ("user.overlay.compose", "userxattr"))
# Device nodes and setuid bits of the tree are data: nothing here opens or obeys them.
_DATA_ONLY = kernel.MS_NOSUID | kernel.MS_NODEV


_SHOWN_LINES = 20


class Form(enum.Enum):
    """How a live root is made, best first. The last has no overlay: LiveRoot fills root/ with copies."""

    OVERLAY = "overlay"
    OVERLAY_IN_MEMORY = "overlay in memory"
    COPY = "copies"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What the machine allows, of the ladder of sandboxes."""

    identity: Identity
    form: Form

    def __str__(self) -> str:
        return f"{self.identity.value}, {self.form.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A program that was run. changes: what became of record.changed. observation: None when there is none."""

    record: ProgramRecord
    changes: tuple[Change, ...]
    observation: Observation | None


class Server:
    """directory holds lower/ and an empty root/; layers/ is made."""

    def __init__(self, directory: str, blobs: str, epoch: int) -> None:
        self._directory = directory
        self._store = BlobStore(blobs)
        self._epoch = epoch
        self._root = f"{directory}/root"
        self._librpm_ready = False
        self._layer = Layer(directory=f"{directory}/layers/upper", lower=f"{directory}/lower")
        self._stamps: dict[str, Stamp] = {}

    def enter(self) -> Identity:
        """Enter namespaces. In a user namespace the process begins anew when this is answered. Raises SandboxError."""
        return identity.enter()

    def mount(self) -> Form:
        """Mount the overlay, if the kernel lets it be. Raises SandboxError."""
        form = self._mount_overlay()
        if form is not Form.COPY:
            self._stamps = self._layer.stamps()
        return form

    def _mount_overlay(self) -> Form:
        os.chdir(self._directory)
        os.mkdir("layers", 0o700)
        try:
            for form in (Form.OVERLAY, Form.OVERLAY_IN_MEMORY):
                if form is Form.OVERLAY_IN_MEMORY:
                    kernel.mount("tmpfs", "layers", "tmpfs", _DATA_ONLY, "mode=0700")
                for name in ("upper", "work"):
                    os.mkdir(f"layers/{name}", 0o755)
                option = _notes_of("layers/upper")
                with contextlib.suppress(OSError):
                    if option:
                        kernel.mount("overlay", "root", "overlay", _DATA_ONLY, f"{_OPTIONS},{option}")
                        return form
            return Form.COPY
        finally:
            os.chdir("/")

    def use_copy(self) -> None:
        """root/ was filled with copies: what it is now is what changes are told from."""
        kernel.mount(self._root, self._root, flags=kernel.MS_BIND)
        kernel.mount("", self._root, flags=kernel.MS_BIND | kernel.MS_REMOUNT | _DATA_ONLY)
        self._layer = Layer(directory=self._root, lower="")
        self._stamps = self._layer.stamps()

    def run(self, program: Program, observed: bool, updates: tuple[Update, ...]) -> Ran:
        """Run a program. observed: note what it looks at, where the kernel can tell. updates: to be shown before."""
        for update in updates:
            self._show(update)
        if updates:
            self._stamps = self._layer.stamps()
        if lua.needed(program) and not self._librpm_ready:
            lua.prepare()
            self._librpm_ready = True
        begun = time.monotonic()
        ended = child.run(self._root, program, self._epoch, lua, observed=observed)
        seconds = time.monotonic() - begun
        if fs.is_full(self._root):
            # whatever its status: it may have gone on with a file that it could not write
            raise StorageError(
                f"{self._root} was full when {program.phase} ({program.owner}) ended",
                hint=fs.FREE_SPACE,
                details=ended.output.splitlines()[-_SHOWN_LINES:],
            )
        before, self._stamps = self._stamps, self._layer.stamps()
        changed = self._layer.changed(before, self._stamps)
        record = ProgramRecord(
            program=program,
            status=ended.status,
            timed_out=ended.timed_out,
            seconds=seconds,
            output=ended.output,
            changed=changed,
        )
        writer = f"{program.owner}:{program.phase}"
        changes = tuple(self._layer.changes(changed, before, self._stamps, self._store, writer=writer))
        return Ran(record=record, changes=changes, observation=ended.observed)

    def _show(self, update: Update) -> None:
        """Make the live root show another tree. What programs removed or replaced meanwhile is left so."""
        for path in update.removed:
            self._remove(path)
        groups: dict[str, str] = {}
        for path, entry in update.made:
            self._make(path, entry, groups)
        for path, entry in update.adjusted:
            self._adjust(path, entry)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._parent(path) as directory:
            fs.remove_at(directory, name_of(path))

    def _make(self, path: str, entry: Entry, groups: dict[str, str]) -> None:
        """Make an entry, in place of what a program put there meanwhile."""
        name = name_of(path)
        with self._parent(path) as directory:
            if entry.is_dir and _type(directory, name) == stat.S_IFDIR:
                pass
            elif entry.link and (first := groups.setdefault(entry.link, path)) != path:
                fs.remove_at(directory, name)
                with self._parent(first) as source:
                    os.link(name_of(first), name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
            else:
                fs.remove_at(directory, name)
                if entry.is_dir:
                    os.mkdir(name, 0o700, dir_fd=directory)
                elif entry.target is not None:
                    os.symlink(entry.target, name, dir_fd=directory)
                else:
                    make_file(name, entry, self._store, directory, 0o600)
        self._adjust(path, entry)

    def _adjust(self, path: str, entry: Entry) -> None:
        """Owner, then mode, then capabilities: each takes away what comes after it."""
        name = name_of(path) or "."
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._parent(path) as directory:
            if _type(directory, name) != stat.S_IFMT(entry.mode):
                return
            if entry.is_symlink:
                os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
                return
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            try:
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.permissions)
                for key, value in kept_xattrs(entry):
                    os.setxattr(fd, key, value)
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[int]:
        """A descriptor of the directory that a path is in."""
        fd = self._open(parent_of(path), os.O_PATH | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self, path: str, flags: int) -> int:
        """Symlinks are followed inside the root."""
        root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return syscalls.open_in_root(root, path or ".", flags)
        finally:
            os.close(root)


def _notes_of(upper: str) -> str:
    """The option for where an overlay can keep its notes in this directory, "" when it cannot: some would be mounted all
    the same, and fail later."""
    for name, option in _NOTES:
        with contextlib.suppress(OSError):
            os.setxattr(upper, name, b"")
            os.removexattr(upper, name)
            return option
    return ""


def _type(directory: int, name: str) -> int:
    """Type bits of what a name stands for, 0 for nothing."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0


def serve(directory: str, blobs: str, epoch: str) -> None:
    """Answer requests until standard input ends."""
    kernel.die_with_parent(signal.SIGKILL)
    os.umask(0o022)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # nothing that a library prints may get between the answers
    os.dup2(2, 1)
    server = Server(directory, blobs, int(epoch))
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        answer: object
        try:
            answer = getattr(server, method)(*arguments)
        except Exception as error:
            answer = _portable(error)
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()
        if answer is Identity.USER:
            os.dup2(answers.fileno(), 1)
            identity.renew()


def _portable(error: Exception) -> Exception:
    if isinstance(error, ComposeError):
        return error
    if isinstance(error, PermissionError):
        return SandboxError(f"the kernel refuses a workroot: {error}", hint=remedy(Step.MOUNT, Machine.here()))
    if isinstance(error, OSError):
        return fs.storage_error(error.filename if isinstance(error.filename, str) else "the workroot", error)
    return RuntimeError(traceback.format_exc())
