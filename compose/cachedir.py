"""What is remembered between composes, and where one compose works.

    CACHEDIR/                  0700, one owner
        .lock                  shared by who uses the cachedir, exclusive for who removes from it
        blobs/                 file contents by digest             (compose.blobs)
        manifests/             facts of RPMs by sha256             (compose.importer)
        object-memo            checksums of content objects        (compose.ostree.memo)
        labels/                what policies say of paths          (compose.label.memo)
        programs/              what programs did, and saw          (compose.workroot)
        repomd/  rpms/         repository metadata and RPMs        (compose.solve, compose.fetch)
        solved/                what the solver answered            (compose.solve)
        treefiles/             those that are known to be right    (compose.treefile)
        verified               which RPMs were found good          (compose.fetch)
        preview-repo/          where a compose without --repo goes
        image-repo/            commits that images were made of    (compose.pipeline.image)
        composes               what past composes found here, a JSON object per line
        work/XXXXXXXX/         scratch of one running compose
        work/XXXXXXXX.lock     held by it as long as it lives

Scratch of a compose that was killed is found by its lock being free, and removed by the next compose.
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
"""Directories that hold nothing but what can be made or fetched again."""


class CacheDir:
    """A cachedir, made when absent. Whoever reads or writes in it holds it: shared() for a compose, exclusive() to remove.

    Raises StorageError when it cannot be made, belongs to somebody else or may be written by others: what lies in it
    ends up in composed systems.
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
                f"what is made in the cachedir {self.path} gets the group {status.st_gid}, and composed files would have it",
                hint=f"chmod g-s {self.path}",
            )

    def join(self, name: str) -> str:
        """Absolute path of something in the cachedir."""
        return os.path.join(self.path, name)

    @contextmanager
    def shared(self, reporter: Reporter) -> Iterator[Self]:
        """Use it, beside any number of other composes. What cannot be trusted in it is put away first, and said.

        A full or failing disk that nobody on the way had a better name for is a StorageError too: most is written here.
        """
        with self._locked(fcntl.LOCK_SH, reporter, None):
            self._heal(reporter)
            for name in PARTS:
                # what is made on the way to something below them would have the mode that the umask gives
                with fs.storage_errors(self.path):
                    os.makedirs(self.join(name), mode=0o700, exist_ok=True)
            try:
                yield self
            except OSError as error:
                if error.errno in fs.DISK_ERRORS:
                    # a descriptor where a call was given one
                    place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
                    raise fs.storage_error(place if os.path.isabs(place) else self.path, error) from error
                raise
            self._remember()

    @contextmanager
    def exclusive(self, reporter: Reporter, *, timeout: float) -> Iterator[Self]:
        """Have it alone, to remove from it. Raises StorageError when composes still use it after timeout seconds."""
        with self._locked(fcntl.LOCK_EX, reporter, timeout):
            self._heal(reporter)
            yield self

    def count(self, what: str, *, asked: int, found: int) -> None:
        """Note how many things a compose asked for and how many of them it found here; kept when shared() ends well."""
        self._counts[what] = (asked, found)

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """A new private directory, removed at the end; leftovers of killed composes are removed first."""
        top = self.join("work")
        with fs.storage_errors(top):
            os.makedirs(top, mode=0o700, exist_ok=True)
            with _locked(os.path.join(top, ".lock")):
                # under the lock of all: nobody takes a directory for a leftover before its own lock is held
                _remove_leftovers(top)
                directory = os.path.join(top, os.urandom(4).hex())
                os.mkdir(directory, 0o700)
                lock = os.open(directory + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            # what cannot be removed now is a leftover for the next compose
            with suppress(OSError, SandboxError):
                _remove_tree(directory)
                os.unlink(directory + ".lock")
            os.close(lock)

    @contextmanager
    def _locked(self, how: int, reporter: Reporter, timeout: float | None) -> Iterator[None]:
        path = self.join(".lock")
        with fs.storage_errors(path):
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            begun = time.monotonic()
            told = False
            while not _try(lock, how):
                if timeout is not None and time.monotonic() - begun >= timeout:
                    raise StorageError(
                        f"the cachedir {self.path} is in use by other composes",
                        hint="try again when they are done, or let --wait give them more time",
                    )
                if not told:
                    others = "composes that run" if how == fcntl.LOCK_EX else "compose cache gc"
                    reporter.info(f"Waiting for {others} in {self.path}")
                    told = True
                time.sleep(_POLL)
            yield
        finally:
            os.close(lock)

    def _heal(self, reporter: Reporter) -> None:
        """Put away the parts that somebody else owns or may write to, and what is no directory in the place of one."""
        for name in PARTS:
            path = self.join(name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if fs.is_own_directory(status):
                continue
            aside = f"{path}.untrusted-{os.urandom(4).hex()}"
            # another compose may be at it too
            with suppress(FileNotFoundError), fs.storage_errors(path):
                os.rename(path, aside)
                reporter.warn(f"{path} is made anew, it cannot be trusted: {_fault(status)}")
                try:
                    _remove_tree(aside)
                except (PermissionError, SandboxError):
                    reporter.warn(f"{aside} is what it was: not ours to remove")

    def _remember(self) -> None:
        """Add a line to the history, in one write: several composes may do it at once."""
        if not self._counts:
            return
        line = json.dumps({"time": int(time.time()), **self._counts}) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        # a full disk is no reason to fail when all else is done
        with suppress(OSError):
            fd = os.open(self.join(HISTORY), flags, 0o600)
            try:
                fs.write_all(fd, line.encode())
            finally:
                os.close(fd)


def _fault(status: os.stat_result) -> str:
    if not stat.S_ISDIR(status.st_mode):
        return "it is no directory"
    if status.st_uid != os.geteuid():
        return f"it belongs to uid {status.st_uid}"
    return f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o})"


def _try(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(path: str) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_leftovers(top: str) -> None:
    for name in {each.removesuffix(".lock") for each in os.listdir(top) if each != ".lock"}:
        directory = os.path.join(top, name)
        lock = os.open(directory + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _try(lock, fcntl.LOCK_EX):
                _remove_tree(directory)
                os.unlink(directory + ".lock")
        finally:
            os.close(lock)


def _remove_tree(path: str) -> None:
    # who only looks into a cachedir has nothing to remove, and imports none of the sandbox
    from compose.sandbox.identity import remove_tree

    remove_tree(path)
