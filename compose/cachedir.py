"""The cachedir: caches that composes share, and the scratch directories of running composes.

    CACHEDIR/                  0700, one owner
        .lock                  shared lock of those who use the cachedir, exclusive of those who remove from it
        blobs/                 file contents by digest             (compose.blobs)
        manifests/             facts of RPMs by sha256             (compose.importer)
        object-memo            checksums of content objects        (compose.ostree.memo)
        labels/                labels of paths by policy           (compose.label.memo)
        programs/              results of programs, by their input (compose.workroot)
        repomd/  rpms/         repository metadata and RPMs        (compose.solve, compose.fetch)
        solved/                results of the solver               (compose.solve)
        treefiles/             validated treefiles                 (compose.treefile)
        verified               RPMs whose signature was verified   (compose.fetch)
        preview-repo/          repository of composes without --repo
        image-repo/            commits that images were made of    (compose.pipeline.image)
        composes               cache hits of past composes, one JSON object per line
        work/XXXXXXXX/         scratch directory of a running compose
        work/XXXXXXXX.lock     lock that it holds while it runs

A scratch directory whose lock is free belongs to a killed compose; the next compose removes it. It also removes files that
a killed one was writing beside these (NAME.XXXXXXXXXXXX.tmp), once they are an hour old.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

from compose import fs
from compose.errors import SandboxError, StorageError
from compose.events import Reporter

PREVIEW, IMAGES = "preview-repo", "image-repo"
HISTORY = "composes"
_POLL = 0.1  # seconds

OBJECT_MEMO, LABELS, PROGRAMS = "object-memo", "labels", "programs"
SOLVED, TREEFILES = "solved", "treefiles"
PARTS = ("blobs", "manifests", LABELS, PROGRAMS, SOLVED, TREEFILES, "repomd", "rpms", "work")
"""Directories whose content can be created or fetched again."""


class CacheDir:
    """A cachedir, created if missing. Lock it to use it: shared() to compose, exclusive() to remove from it.

    Raises StorageError if it cannot be created, belongs to another user or is writable by others, because its content ends up
    in composed systems.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._counts: dict[str, tuple[int, int]] = {}
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            status = os.stat(self.path)
        except OSError as error:
            raise StorageError(
                f"cannot use {self.path} as cachedir: {error.strerror}", hint="give another one with --cachedir"
            ) from error
        if status.st_uid != os.geteuid():
            raise StorageError(
                f"the cachedir {self.path} belongs to uid {status.st_uid}, not to you (uid {os.geteuid()})",
                hint="give one of your own with --cachedir",
            )
        if status.st_mode & 0o022:
            raise StorageError(
                f"the cachedir {self.path} may be written by others (mode {status.st_mode & 0o7777:04o})",
                hint=f"chmod go-w {self.path}",
            )
        if status.st_mode & stat.S_ISGID and status.st_gid != os.getegid():
            raise StorageError(
                f"new files in the cachedir {self.path} get the group {status.st_gid}, which composed files would inherit",
                hint=f"chmod g-s {self.path}",
            )

    def join(self, name: str) -> str:
        """Return the absolute path of a name in the cachedir."""
        return os.path.join(self.path, name)

    @contextmanager
    def shared(self, reporter: Reporter) -> Iterator[Self]:
        """Hold the shared lock. Untrusted parts are replaced first, with a warning.

        Raises StorageError. An OSError from the block about a full or failing disk becomes one that names its file or the
        cachedir, where most files are written.
        """
        with self._locked(fcntl.LOCK_SH, reporter, None):
            self._heal(reporter)
            for name in PARTS:
                # created here, because parents created implicitly would get the umask's mode
                with fs.storage_errors(self.path):
                    os.makedirs(self.join(name), mode=0o700, exist_ok=True)
            try:
                yield self
            except OSError as error:
                if error.errno in fs.DISK_ERRORS:
                    # a call that is given a descriptor has that as its filename
                    place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
                    raise fs.storage_error(place if os.path.isabs(place) else self.path, error) from error
                raise
            self._append_history()

    @contextmanager
    def exclusive(self, reporter: Reporter, *, timeout: float) -> Iterator[Self]:
        """Hold the exclusive lock. Raises StorageError if composes still use the cachedir after timeout seconds."""
        with self._locked(fcntl.LOCK_EX, reporter, timeout):
            self._heal(reporter)
            yield self

    def count(self, what: str, *, asked: int, found: int) -> None:
        """Record how many items a compose looked up, and found here; written to the history when shared() ends well."""
        self._counts[what] = (asked, found)

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """Create a private directory, removed at the end. Removes leftovers of killed composes first. Raises StorageError."""
        top = self.join("work")
        with fs.storage_errors(top):
            os.makedirs(top, mode=0o700, exist_ok=True)
            with _file_lock(os.path.join(top, ".lock")):
                # holding this lock, so that no compose takes the directory for a leftover before its own lock is held
                _remove_leftovers(top)
                fs.remove_unfinished(self.path)
                directory = os.path.join(top, os.urandom(4).hex())
                lock = _make_locked(directory)
        try:
            yield directory
        finally:
            # the next compose removes the rest
            with suppress(OSError, SandboxError):
                _remove_tree(directory)
                os.unlink(directory + ".lock")
            os.close(lock)

    @contextmanager
    def _locked(self, how: int, reporter: Reporter, timeout: float | None) -> Iterator[None]:
        path = self.join(".lock")
        with fs.storage_errors(path):
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

        def take() -> bool:
            with fs.storage_errors(path):
                return _try_lock(lock, how)

        try:
            begun = time.monotonic()
            waiting = False
            while not take():
                if timeout is not None and time.monotonic() - begun >= timeout:
                    raise StorageError(
                        f"the cachedir {self.path} is in use by other composes",
                        hint="try again later, or wait longer with --wait",
                    )
                if not waiting:
                    others = "running composes" if how == fcntl.LOCK_EX else "compose cache gc"
                    reporter.info(f"Waiting for {others} in {self.path}")
                    waiting = True
                time.sleep(_POLL)
            yield
        finally:
            os.close(lock)

    def _heal(self, reporter: Reporter) -> None:
        """Remove parts that are not directories of this user, or that others may write to."""
        for name in PARTS:
            path = self.join(name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if fs.is_own_directory(status):
                continue
            aside = f"{path}.untrusted-{os.urandom(4).hex()}"
            # another compose may do the same at this moment
            with suppress(FileNotFoundError), fs.storage_errors(path):
                os.rename(path, aside)
                reporter.warn(f"{path} is not trusted and is created again: {_fault(status)}")
                try:
                    _remove_tree(aside)
                except (PermissionError, SandboxError):
                    reporter.warn(f"{aside} is the untrusted {name}; it cannot be removed by this user")

    def _append_history(self) -> None:
        """Append a line to the history in a single write, since composes may do so concurrently."""
        if not self._counts:
            return
        line = json.dumps({"time": int(time.time()), **self._counts}) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        # losing a line must not fail a compose that succeeded
        with suppress(OSError):
            fd = os.open(self.join(HISTORY), flags, 0o600)
            try:
                fs.write_all(fd, line.encode())
            finally:
                os.close(fd)


def _fault(status: os.stat_result) -> str:
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a directory"
    if status.st_uid != os.geteuid():
        return f"it belongs to uid {status.st_uid}"
    return f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o})"


def _try_lock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _file_lock(path: str) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _make_locked(directory: str) -> int:
    """Make a directory, and the lock beside it; return the lock's descriptor. Raises OSError, and leaves nothing then."""
    path = directory + ".lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.mkdir(directory, 0o700)
    except BaseException:
        os.unlink(path)
        os.close(lock)
        raise
    return lock


def _remove_leftovers(top: str) -> None:
    for name in {each.removesuffix(".lock") for each in os.listdir(top) if each != ".lock"}:
        directory = os.path.join(top, name)
        lock = os.open(directory + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _try_lock(lock, fcntl.LOCK_EX):
                _remove_tree(directory)
                # a compose that just ended may have removed it
                with suppress(FileNotFoundError):
                    os.unlink(directory + ".lock")
        finally:
            os.close(lock)


def _remove_tree(path: str) -> None:
    # imported late, because commands that only inspect a cachedir remove nothing
    from compose.sandbox.identity import remove_tree

    remove_tree(path)
