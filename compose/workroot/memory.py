"""What programs did in earlier composes, and what they saw that made them do it: they need not run again.

    CACHEDIR/programs/ab/cdef...    one program: its last few runs, JSON compressed by zstd, in a sealed file
    CACHEDIR/programs/lower-0       the lower layer of a live root, which the next one brings to its own tree: hard links to
                                    blobs, copies of little else, nothing that is not root's; locked by who has it

The name is a digest of all that is given to a program: arguments, script, input, environment, the sandbox. Beside that it knows
but the tree, and what it saw of that is in the file. What depends on the clock or on chance is thereby the same in every
compose.
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

# To be raised whenever the same program in the same tree could do something else than before: another sandbox, say.
_VERSION = 5
_KIND = b"compose programs 1\n"
_KEPT = 4
_LOWER, _LOWERS, _TREE = "lower-", 8, "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A run that succeeded. output, changed: of its record. changes: what it left, parents first."""

    sight: Sight
    output: str
    changed: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(slots=True, kw_only=True)
class Lower:
    """A directory for a lower layer. shown: the tree that it shows, None when only the disk knows; who changes what it shows
    sets this to None before and to the new tree afterwards."""

    directory: str
    shown: Tree | None


class ProgramMemory:
    """The memory in one directory, made when first needed. Safe to use from many processes at once."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # the tree in a lower layer, by what was written into its lock when this compose last had it
        self._shown: dict[bytes, Tree] = {}

    def recall(self, key: str) -> Iterator[Remembered]:
        """The runs of a program, the last one first."""
        return map(_remembered, _rows(self._path(key)) or ())

    @contextmanager
    def lower(self) -> Iterator[Lower | None]:
        """A directory for the lower layer of a live root, as the one before left it; None when others have them all."""
        for number in range(_LOWERS):
            path = os.path.join(self._directory, f"{_LOWER}{number}")
            with fs.storage_errors(path):
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
                lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    with fs.storage_errors(path):
                        for each in (path, f"{path}/{_TREE}"):
                            # what is removed below must be ours: never the place that a symlink leads to
                            if os.path.lexists(each) and not fs.is_own_directory(os.lstat(each)):
                                identity.remove_tree(each)
                            if not os.path.lexists(each):
                                os.mkdir(each, mode=0o700)
                                self._shown.clear()
                        # when it was last of use: what is below has the times of the tree
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
            # who had it last: nothing in it is otherwise than that one left it
            mine = f"{os.getpid()} {secrets.token_hex(16)}".encode()
            last = os.pread(lock, 1024, 0)
            with fs.storage_errors(path):
                os.truncate(lock, 0)
                os.pwrite(lock, mine, 0)
            lower = Lower(directory=f"{path}/{_TREE}", shown=self._shown.pop(last, None))
            yield lower
            if lower.shown is not None:
                self._shown = {mine: lower.shown}
        finally:
            os.close(lock)

    def lowers(self) -> list[str]:
        """Absolute paths of what holds lower layers."""
        return sorted(each for each in glob.glob(f"{glob.escape(self._directory)}/{_LOWER}*") if os.path.isdir(each))

    def paths(self) -> list[str]:
        """Absolute paths of all that is remembered."""
        found = glob.glob(f"{glob.escape(self._directory)}/??/*")
        return sorted(path for path in found if not path.endswith(".tmp"))

    def contents(self, path: str) -> tuple[BlobRef, ...] | None:
        """What programs left that a file is about; None when it is damaged, or of another version."""
        rows = _rows(path)
        if rows is None:
            return None
        changes = (change for row in rows for change in _remembered(row).changes)
        return tuple(
            change.entry.blob for change in changes if change.entry is not None and change.entry.blob is not None
        )

    def used(self, key: str) -> None:
        """Say that a program's runs were of use: what was not for long may be forgotten."""
        with suppress(OSError):
            os.utime(self._path(key))

    def keep(self, key: str, run: Remembered) -> None:
        """Remember a run. Raises StorageError."""
        # several at once: one of them is forgotten
        path = self._path(key)
        rows = [_row(run), *(_rows(path) or ())][:_KEPT]
        with fs.storage_errors(path):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_sealed(path, _KIND, zstandard.ZstdCompressor().compress(json.dumps(rows).encode()))

    def _path(self, key: str) -> str:
        return f"{self._directory}/{key[:2]}/{key[2:]}"


def _rows(path: str) -> list[dict[str, Any]] | None:
    data = read_sealed(path, _KIND)
    if data is None:
        return None
    rows: list[dict[str, Any]] = json.loads(zstandard.ZstdDecompressor().decompress(data))
    return rows


def key_of(program: Program, epoch: int, *, applied: bool) -> str:
    """Digest of all that a program is given besides the tree. epoch: SOURCE_DATE_EPOCH. applied: are owners applied yet?"""
    kernel = os.uname()
    given = (
        (_VERSION, __version__, kernel.sysname, kernel.release, kernel.machine, applied),
        dict(program.environment).get("SOURCE_DATE_EPOCH", str(epoch)),
        (program.phase, program.argv, program.body, program.stdin.hex(), program.header.hex()),
        (program.lua, program.expand, program.macros, program.environment),
    )
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()


def _row(run: Remembered) -> dict[str, Any]:
    return {
        "found": dict(run.sight.found),
        "listed": dict(run.sight.listed),
        "output": run.output,
        "changed": run.changed,
        "changes": [[each.path, _entry_row(each.entry), each.opaque, each.inode, each.lost] for each in run.changes],
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
