"""Remembers what programs did in earlier composes and what they saw of the tree, so that they need not run again.

    CACHEDIR/programs/ab/cdef....VERSION    one program: its last few runs, JSON compressed by zstd, in a sealed file
    CACHEDIR/programs/lower-0               the lower layer of a live root, which the next one updates to its own tree: hard
                                            links to blobs and a few copies, all owned by root; locked while in use

A file's name is a digest of everything a program is given: arguments, script, input, environment, the sandbox; and the version
that ran it, for no other replays it. Apart from that it depends on the tree only, and the file says on what of it. As a side
effect, output that depends on the clock or on chance is the same in every compose that replays the run.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import zstandard

from compose import __version__, fs
from compose.process import Program
from compose.sandbox import identity
from compose.sealed import read_sealed, write_sealed
from compose.tree import BlobRef, Entry, Tree
from compose.workroot.layer import Change
from compose.workroot.sight import Sight

# To be raised whenever the same program could behave differently in the same tree, such as after a change of the sandbox.
_VERSION = 7
_SUFFIX = f".{_VERSION}-{__version__}"
_KIND = b"compose programs 1\n"
_RUNS_KEPT = 4
_LOWER, _LOWERS, _TREE = "lower-", 8, "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A successful run. output, changed: as in its ProgramRecord. changes: what it left, parents first."""

    sight: Sight
    output: str
    changed: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(slots=True, kw_only=True)
class Lower:
    """A directory for a lower layer.

    shown: the tree it shows, None if unknown. Whoever changes the directory sets this to None before and to the new tree after.
    """

    directory: str
    shown: Tree | None


class ProgramMemory:
    """A memory in a directory, which is created when needed. Safe to use from several processes at once."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # the tree shown by a lower layer, by the token that this process last wrote into its lock file
        self._shown: dict[bytes, Tree] = {}

    def recall(self, key: str) -> Iterator[Remembered]:
        """The remembered runs of a program, latest first."""
        return map(_remembered, _rows(self._path(key)) or ())

    @contextmanager
    def lower(self) -> Iterator[Lower | None]:
        """Lock and yield a lower layer's directory, as its last user left it; None if all are in use. Raises StorageError."""
        for number in range(_LOWERS):
            path = os.path.join(self._directory, f"{_LOWER}{number}")
            with fs.storage_errors(path):
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
                lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    with fs.storage_errors(path):
                        for directory in (path, f"{path}/{_TREE}"):
                            # never follow a symlink: what is in this directory will be removed
                            if os.path.lexists(directory) and not fs.is_own_directory(os.lstat(directory)):
                                identity.remove_tree(directory)
                            if not os.path.lexists(directory):
                                os.mkdir(directory, mode=0o700)
                                self._shown.clear()
                        # the time of last use: the directory below has the tree's
                        os.utime(path)
                    break
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)
        else:
            yield None
            return
        try:
            # the token says who used it last: if it is ours, the directory is as we left it
            token = f"{os.getpid()} {secrets.token_hex(16)}".encode()
            last = os.pread(lock, 1024, 0)
            with fs.storage_errors(path):
                os.truncate(lock, 0)
                os.pwrite(lock, token, 0)
            lower = Lower(directory=f"{path}/{_TREE}", shown=self._shown.pop(last, None))
            yield lower
            if lower.shown is not None:
                self._shown = {token: lower.shown}
        finally:
            os.close(lock)

    def lowers(self) -> list[str]:
        """Absolute paths of the directories that hold lower layers."""
        return sorted(path for path in glob.glob(f"{glob.escape(self._directory)}/{_LOWER}*") if os.path.isdir(path))

    def paths(self) -> list[str]:
        """Absolute paths of the files that remember programs, and of those being written, which end with ".tmp"."""
        return sorted(glob.glob(f"{glob.escape(self._directory)}/??/*"))

    def is_current(self, path: str) -> bool:
        """Is one of paths() of this version, so that a compose may read it?"""
        return path.endswith(_SUFFIX)

    def contents(self, path: str) -> tuple[BlobRef, ...] | None:
        """The blobs that a program's remembered runs wrote; None if the file is damaged or of another version."""
        rows = _rows(path) if self.is_current(path) else None
        if rows is None:
            return None
        changes = (change for row in rows for change in _remembered(row).changes)
        return tuple(
            change.entry.blob for change in changes if change.entry is not None and change.entry.blob is not None
        )

    def used(self, key: str) -> None:
        """Mark a program's runs as used, which keeps cache collection from removing them."""
        with suppress(OSError):
            os.utime(self._path(key))

    def keep(self, key: str, run: Remembered) -> None:
        """Remember a run. Raises StorageError."""
        # when two processes do this at once, one run is lost
        path = self._path(key)
        rows = [_row(run), *(_rows(path) or ())][:_RUNS_KEPT]
        with fs.storage_errors(path):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_sealed(path, _KIND, zstandard.ZstdCompressor().compress(json.dumps(rows).encode()))

    def _path(self, key: str) -> str:
        return f"{self._directory}/{key[:2]}/{key[2:]}{_SUFFIX}"


def _rows(path: str) -> list[dict[str, Any]] | None:
    data = read_sealed(path, _KIND)
    if data is None:
        return None
    rows: list[dict[str, Any]] = json.loads(zstandard.ZstdDecompressor().decompress(data))
    return rows


def key_of(program: Program, epoch: int, *, applied: bool, foreign: str | None = None) -> str:
    """Digest of everything a program is given besides the tree. epoch: SOURCE_DATE_EPOCH. applied: see Workroot.apply().
    foreign: the architecture that is emulated."""
    kernel = os.uname()
    given = (
        (kernel.sysname, kernel.release, kernel.machine, applied),
        dict(program.environment).get("SOURCE_DATE_EPOCH", str(epoch)),
        (program.phase, program.argv, program.body, program.stdin.hex(), program.header.hex()),
        (program.lua, program.expand, program.macros, program.environment),
        *([foreign] if foreign else []),
    )
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()


def _row(run: Remembered) -> dict[str, Any]:
    return {
        "found": dict(run.sight.found),
        "listed": dict(run.sight.listed),
        "output": run.output,
        "changed": run.changed,
        "changes": [
            [change.path, _entry_row(change.entry), change.opaque, change.inode, change.lost] for change in run.changes
        ],
    }


def _entry_row(entry: Entry | None) -> list[Any] | None:
    if entry is None:
        return None
    blob = entry.blob
    xattrs = [[name.hex(), value.hex()] for name, value in entry.xattrs]
    content = [blob.digest, blob.size, blob.mode, blob.mtime] if blob is not None else None
    return [entry.mode, entry.uid, entry.gid, xattrs, content, entry.target, entry.mtime]


def _remembered(row: dict[str, Any]) -> Remembered:
    return Remembered(
        sight=Sight(found=dict(row["found"]), listed=dict(row["listed"])),
        output=row["output"],
        changed=tuple(row["changed"]),
        changes=tuple(
            Change(path=path, entry=_entry(entry), opaque=opaque, inode=inode, lost=lost)
            for path, entry, opaque, inode, lost in row["changes"]
        ),
    )


def _entry(row: list[Any] | None) -> Entry | None:
    if row is None:
        return None
    mode, uid, gid, xattrs, content, target, mtime = row
    return Entry(
        mode=mode,
        uid=uid,
        gid=gid,
        xattrs=tuple((bytes.fromhex(name), bytes.fromhex(value)) for name, value in xattrs),
        blob=BlobRef(digest=content[0], size=content[1], mode=content[2], mtime=content[3]) if content else None,
        target=target,
        mtime=mtime,
    )
