"""The process that holds a workroot's mount namespace: mounts the overlay, runs programs, changes and reads files.

Requests are pickled (method, arguments) on its standard input, answers pickled on its standard output; it was started
by, and talks to, nobody but Workroot. It is single-threaded, for it forks. Its mounts are in a namespace of its own and go
when it goes, however that happens.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import stat
import sys
import time
import traceback
from collections.abc import Iterator

from compose import fs
from compose.blobs import BlobStore
from compose.errors import ComposeError, SandboxError
from compose.process import Program, ProgramRecord
from compose.sandbox import child, kernel, lua
from compose.tree import Entry, Tree
from compose.workroot.upper import Dropped, absorb, changed, stamps

# index=on lets a write to one path show on another that shares the lower inode, which blobs do
_OPTIONS = (
    "lowerdir=lower,upperdir={upper}/upper,workdir={upper}/work,index=off,metacopy=off,redirect_dir=nofollow,xino=off"
)


class Server:
    """directory holds lower/; upper/, work/ and root/ are made."""

    def __init__(self, directory: str, blobs: str, epoch: int) -> None:
        self._directory = directory
        self._store = BlobStore(blobs)
        self._epoch = epoch
        self._root = f"{directory}/root"
        self._lua_ready = False
        self._writers: dict[str, str] = {}
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
        os.chdir(directory)
        os.mkdir("root", 0o755)
        self._upper = self._mount_overlay()
        self._stamps = stamps(self._upper)

    def _mount_overlay(self) -> str:
        """Path of the upper layer: beside the lower one, or in memory where that filesystem cannot be one."""
        os.mkdir("layers", 0o700)
        for in_memory in (False, True):
            if in_memory:
                kernel.mount("tmpfs", "layers", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0700")
            for name in ("upper", "work"):
                os.mkdir(f"layers/{name}", 0o755)
            try:
                kernel.mount("overlay", "root", "overlay", 0, _OPTIONS.format(upper="layers"))
                return f"{self._directory}/layers/upper"
            except OSError as error:
                if in_memory:
                    raise SandboxError(
                        f"the kernel refuses an overlay at {self._directory}: {error.strerror}",
                        hint="put the cachedir on a filesystem that can be below an overlay (ext4, xfs, btrfs, tmpfs)",
                    ) from error
        raise AssertionError

    def run(self, program: Program) -> ProgramRecord:
        if program.lua and not self._lua_ready:
            lua.prepare()
            self._lua_ready = True
        begun = time.monotonic()
        status, timed_out, output = child.run(self._root, program, self._epoch, lua.run)
        seconds = time.monotonic() - begun
        return ProgramRecord(
            program=program,
            status=status,
            timed_out=timed_out,
            seconds=seconds,
            output=output,
            changed=self._note_changes(f"{program.owner}:{program.phase}"),
        )

    def _note_changes(self, writer: str) -> tuple[str, ...]:
        now = stamps(self._upper)
        paths = changed(self._stamps, now, f"{self._directory}/lower")
        self._stamps = now
        self._writers.update(dict.fromkeys(paths, writer))
        return paths

    def apply(self, changes: list[tuple[str, Entry]]) -> None:
        """Give paths their owner, then mode, then capabilities. The paths are the tree's own: no symlink is on the way."""
        with self._beneath():
            for path, entry in changes:
                name = path or "."
                os.chown(name, entry.uid, entry.gid, follow_symlinks=False)
                if entry.is_symlink:
                    continue
                os.chmod(name, entry.permissions)
                for key, value in entry.xattrs:
                    if key == b"security.capability" or key.startswith(b"user."):
                        os.setxattr(name, key, value, follow_symlinks=False)
                if entry.is_file:
                    os.utime(name, (entry.mtime, entry.mtime))
        self._stamps = stamps(self._upper)

    def read(self, path: str) -> bytes | None:
        """Content of a regular file, symlinks followed inside the root; None when there is none."""
        try:
            fd = self._open(path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        with open(fd, "rb") as file:
            return file.read()

    def exists(self, path: str) -> bool:
        """Is there something, symlinks followed inside the root?"""
        try:
            os.close(self._open(path, os.O_PATH))
        except OSError:
            return False
        return True

    def write(self, path: str, data: bytes, permissions: int, writer: str) -> None:
        """Write a regular file; its directory must exist, the last component is not followed."""
        parent, _, name = path.rpartition("/")
        directory = self._open(parent, os.O_PATH | os.O_DIRECTORY)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, permissions, dir_fd=directory)
            try:
                fs.write_all(fd, data)
                os.fchmod(fd, permissions)
                os.utime(fd, (self._epoch, self._epoch))
            finally:
                os.close(fd)
        finally:
            os.close(directory)
        self._note_changes(writer)

    def remove(self, path: str, writer: str) -> None:
        """Remove a file or a whole directory; a missing one is fine."""
        parent, _, name = path.rpartition("/")
        try:
            directory = self._open(parent, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            fs.remove_at(directory, name)
        finally:
            os.close(directory)
        self._note_changes(writer)

    def absorb(self, base: Tree) -> tuple[Tree, tuple[Dropped, ...]]:
        return absorb(self._upper, base, self._store, self._writers)

    def _open(self, path: str, flags: int) -> int:
        root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return fs.open_in_root(root, path or ".", flags)
        finally:
            os.close(root)

    @contextlib.contextmanager
    def _beneath(self) -> Iterator[None]:
        os.chdir(self._root)
        try:
            yield
        finally:
            os.chdir("/")


def serve(directory: str, blobs: str, epoch: str) -> None:
    """Answer requests until standard input ends."""
    kernel.die_with_parent(signal.SIGKILL)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # nothing that a library prints may get between the answers
    os.dup2(2, 1)
    try:
        server: Server | None = Server(directory, blobs, int(epoch))
        failure: BaseException | None = None
    except (ComposeError, OSError) as error:
        server, failure = None, _portable(error)
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        answer: object
        if failure is not None:
            answer = failure
        else:
            try:
                answer = getattr(server, method)(*arguments)
            except Exception as error:
                answer = _portable(error)
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def _portable(error: Exception) -> Exception:
    if isinstance(error, PermissionError) and not isinstance(error, ComposeError):
        return SandboxError(
            f"the kernel refuses a workroot: {error}", hint="compose as root where namespaces and mounts are allowed"
        )
    return error if isinstance(error, ComposeError | OSError) else RuntimeError(traceback.format_exc())
