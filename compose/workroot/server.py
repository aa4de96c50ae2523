"""The process that owns a workroot's mount namespace: mounts the overlay, runs programs, changes files.

It is started by LiveRoot and talks to nobody else: pickled (method, arguments) on standard input, pickled answers on standard
output. It is single-threaded because it forks. Its mounts are in its own namespace and disappear with it, however it ends.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import pickle
import signal
import stat
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from compose import fs, syscalls
from compose.blobs import BlobStore
from compose.errors import ComposeError, SandboxError, StorageError
from compose.limits import LIMITS
from compose.process import Program, ProgramRecord
from compose.sandbox import child, identity, kernel, lua
from compose.sandbox.identity import Identity
from compose.sandbox.observe import Observation
from compose.sandbox.refusal import Machine, Step, remedy
from compose.tree import Entry, name_of, parent_of
from compose.workroot.layer import Change, Layer, Stamp, drop_lost_xattrs
from compose.workroot.materialise import kept_xattrs, make_file
from compose.workroot.merge import Update

# index=off: otherwise a write to one path would show at all that share its lower inode, and paths with equal content share a
# blob's. volatile: no syncing, since the layer is thrown away.
_OPTIONS = "lowerdir=lower,upperdir=layers/upper,workdir=layers/work,index=off,metacopy=off,xino=off,volatile"
# (the namespace of the overlay's xattrs, its mount option): trusted.* needs the initial user namespace.
# userxattr implies that redirects are off and rejects the option that says so.
_XATTR_OPTIONS = (("trusted.overlay.", "redirect_dir=nofollow"), ("user.overlay.", "userxattr"))
# Device nodes and setuid bits of the tree are mere data: nothing here may open or honour them.
_DATA_ONLY = kernel.MS_NOSUID | kernel.MS_NODEV
_AS_IT_IS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SHOWN_LINES = 20
# which the command line explains; ENOMEM may be the disk's
_TOO_MANY = LIMITS - {errno.ENOMEM}


class Form(enum.Enum):
    """Where a live root keeps changes, best first. COPY is without an overlay: LiveRoot fills root/ with copies."""

    OVERLAY = "overlay"
    OVERLAY_IN_MEMORY = "overlay in memory"
    COPY = "copies"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """How programs are sandboxed on this machine: one rung of the ladder of fallbacks."""

    identity: Identity
    form: Form

    def __str__(self) -> str:
        return f"{self.identity.value}, {self.form.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Result of a run. changes: what became of the paths in record.changed. observation: as in sandbox.child.Exit.observed."""

    record: ProgramRecord
    changes: tuple[Change, ...]
    observation: Observation | None


class Server:
    """Methods that LiveRoot calls. directory: holds lower/ and an empty root/; the server creates layers/. foreign: as of
    identity.enter()."""

    def __init__(self, directory: str, blobs: str, epoch: int, foreign: str | None) -> None:
        self._directory = directory
        self._foreign = foreign
        self._store = BlobStore(blobs)
        self._epoch = epoch
        self._root = f"{directory}/root"
        self._librpm_ready = False
        self._layer = Layer(directory=f"{directory}/layers/upper", lower=f"{directory}/lower")
        self._stamps: dict[str, Stamp] = {}

    def enter(self) -> Identity:
        """Enter namespaces. After answering, the server re-execs itself. Raises SandboxError."""
        return identity.enter(self._foreign)

    def mount(self) -> Form:
        """Mount the overlay, if the kernel allows it, and return the form used. Raises OSError."""
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
                namespace, option = _xattr_option("layers/upper")
                with contextlib.suppress(OSError):
                    if option:
                        kernel.mount("overlay", "root", "overlay", _DATA_ONLY, f"{_OPTIONS},{option}")
                        self._layer = replace(self._layer, opaque=f"{namespace}opaque")
                        return form
            return Form.COPY
        finally:
            os.chdir("/")

    def use_copy(self) -> None:
        """Take root/, which the caller has filled with copies, as the state to find changes from. Raises OSError."""
        kernel.mount(self._root, self._root, flags=kernel.MS_BIND)
        kernel.mount("", self._root, flags=kernel.MS_BIND | kernel.MS_REMOUNT | _DATA_ONLY)
        self._layer = Layer(directory=self._root, lower="")
        self._stamps = self._layer.stamps()

    def run(self, program: Program, observed: bool, updates: tuple[Update, ...]) -> RunResult:
        """Apply the updates, then run a program. observed: record its path lookups, if the kernel supports it.

        Raises SandboxError, ScriptError for a sparse file that does not fit on the store's disk, StorageError.
        """
        for update in updates:
            self._show(update)
        if updates:
            self._stamps = self._layer.stamps()
        if lua.needed(program) and not self._librpm_ready:
            lua.prepare()
            self._librpm_ready = True
        start = time.monotonic()
        result = child.run(self._root, program, self._epoch, lua, observed=observed)
        seconds = time.monotonic() - start
        if fs.is_full(self._root):
            # even if it succeeded: it may have ignored that a file could not be written
            raise StorageError(
                f"{self._root} was full when {program.phase} ({program.owner}) ended",
                hint=fs.FREE_SPACE,
                details=result.output.splitlines()[-_SHOWN_LINES:],
            )
        before, self._stamps = self._stamps, self._layer.stamps()
        changed = self._layer.changed(before, self._stamps)
        record = ProgramRecord(
            program=program,
            status=result.status,
            timed_out=result.timed_out,
            seconds=seconds,
            output=result.output,
            changed=changed,
        )
        writer = f"{program.owner}:{program.phase}"
        changes = tuple(self._layer.changes(changed, before, self._stamps, self._store, writer=writer))
        if lost := [change for change in changes if change.lost]:
            self._drop(lost)
            self._stamps = self._layer.stamps()
        return RunResult(record=record, changes=changes, observation=result.observed)

    def _drop(self, changes: Iterable[Change]) -> None:
        """Remove what the tree cannot hold. Later programs must not see it: their runs are remembered as results of what the
        tree has, and another compose, without the package that made it, would replay them."""
        for change in changes:
            if change.entry is None:
                self._remove(change.path)
            else:
                with self._parent(change.path) as directory:
                    fd = os.open(name_of(change.path) or ".", _AS_IT_IS, dir_fd=directory)
                    try:
                        drop_lost_xattrs(fd)
                    finally:
                        os.close(fd)

    def _show(self, update: Update) -> None:
        """Make the live root show another tree. What programs removed or replaced meanwhile is not restored."""
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
        """Make an entry, replacing what a program may have put there."""
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
        """Set owner, then mode, then capabilities: each of these resets the following ones."""
        name = name_of(path) or "."
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._parent(path) as directory:
            if _type(directory, name) != stat.S_IFMT(entry.mode):
                return
            if entry.is_symlink:
                os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
                return
            fd = os.open(name, _AS_IT_IS, dir_fd=directory)
            try:
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.permissions)
                for key, value in kept_xattrs(entry):
                    os.setxattr(fd, key, value)
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[int]:
        """Yield a descriptor of a path's parent directory."""
        fd = self._open(parent_of(path), os.O_PATH | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self, path: str, flags: int) -> int:
        """Open a path, following symlinks inside the root only."""
        root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return syscalls.open_in_root(root, path or ".", flags)
        finally:
            os.close(root)


def _xattr_option(upper: str) -> tuple[str, str]:
    """(namespace, mount option) of the xattrs that an overlay can set in this directory, ("", "") if it can set none.

    Without this check some overlays would mount, and fail later.
    """
    for namespace, option in _XATTR_OPTIONS:
        name = f"{namespace}compose"
        with contextlib.suppress(OSError):
            os.setxattr(upper, name, b"")
            os.removexattr(upper, name)
            return namespace, option
    return "", ""


def _type(directory: int, name: str) -> int:
    """File type bits of a name in a directory, 0 if it does not exist."""
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return 0


def serve(directory: str, blobs: str, epoch: str, foreign: str) -> None:
    """Answer requests until standard input ends."""
    kernel.die_with_parent(signal.SIGKILL)
    os.umask(0o022)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # nothing that a library prints may mix with the answers
    os.dup2(2, 1)
    server = Server(directory, blobs, int(epoch), foreign or None)
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
        try:
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except BrokenPipeError:
            # the compose was killed; at once, or the interpreter would complain that it cannot flush
            os._exit(1)
        if isinstance(answer, Identity):
            os.dup2(answers.fileno(), 1)
            identity.renew()


def _portable(error: Exception) -> Exception:
    """An exception to send to the caller, a ComposeError if possible."""
    if isinstance(error, ComposeError):
        return error
    if isinstance(error, PermissionError):
        return SandboxError(
            f"the kernel refuses to set up a workroot: {error}", hint=remedy(Step.MOUNT, Machine.here())
        )
    if isinstance(error, OSError) and error.errno in _TOO_MANY:
        return error
    if isinstance(error, OSError):
        return fs.storage_error(error.filename if isinstance(error.filename, str) else "the workroot", error)
    return RuntimeError(traceback.format_exc())
