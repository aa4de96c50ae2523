"""The caller's side of a workroot: the tree as it becomes by what programs do, and a live root when one must run."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

from compose import fs
from compose.blobs import BlobStore
from compose.errors import ScriptError, StorageError
from compose.events import Reporter
from compose.process import Program, ProgramRecord
from compose.tree import Entry, Tree, TreeLookupError, join, name_of, parent_of
from compose.workroot.layer import Change
from compose.workroot.live import LiveRoot, make_directory
from compose.workroot.materialise import MOUNT_POINTS, as_materialised
from compose.workroot.memory import ProgramMemory, Remembered, key_of
from compose.workroot.merge import Update, adjusted, lost, take, update, with_links
from compose.workroot.server import Ran
from compose.workroot.sight import Sight, sight_of

READ_LIMIT = 64 << 20
"""Bytes that read() returns at most, unless told otherwise."""


class Workroot:
    """A root showing `tree`, in which programs run. What it is on disk lies in `directory`, and is gone when the context is
    left.

    directory: absent, or left behind by a compose that was killed; nobody else uses it meanwhile. Until apply() everything
    that is not plain is root's, and never setuid. epoch: SOURCE_DATE_EPOCH for programs. memory: what programs did before
    and would do again is done without running them; the root is on disk only from the first one on that must run. passing:
    the next live root will show quite another tree, so that this one's lower layer is not worth keeping. Raises SandboxError
    when the machine refuses what is needed, StorageError when the disk does.
    """

    def __init__(
        self,
        tree: Tree,
        store: BlobStore,
        directory: str,
        *,
        reporter: Reporter,
        epoch: int,
        memory: ProgramMemory | None = None,
        passing: bool = False,
    ) -> None:
        self._tree = tree
        self._now = tree.edit()
        self._applied = False
        self._store = store
        self._directory = os.path.abspath(directory)
        self._reporter = reporter
        self._epoch = epoch
        self._memory = memory
        self._passing = passing
        self._live: LiveRoot | None = None
        self._stack = ExitStack()
        self._records: list[ProgramRecord] = []
        # what programs left before apply(), as it is on disk
        self._left: dict[str, Entry] = {}
        self._lost: dict[str, str] = {}

    def __enter__(self) -> Self:
        make_directory(self._directory)
        return self

    def __exit__(self, *exception: object) -> None:
        with self._stack:
            if self._live is not None:
                self._live.close()
            else:
                fs.remove_tree(self._directory)

    @property
    def records(self) -> tuple[ProgramRecord, ...]:
        """Every program run so far, in order."""
        return tuple(self._records)

    def run(self, program: Program) -> ProgramRecord:
        """Run a program in the sandbox; whether its status is a failure is for the caller to say.

        Raises SandboxError when it cannot be run: an interpreter that is missing is status 127, as in a shell; ScriptError
        when it makes a name that is not UTF-8, or holes for which there is no room.
        """
        memory = self._memory
        key = key_of(program, self._epoch, applied=self._applied) if memory is not None else ""
        known = self._known(key)
        if known is not None:
            record = self._repeat(program, known)
        else:
            ran = self._live_root().run(program, observed=memory is not None)
            record = ran.record
            sight = self._sight(ran)
            self._take(ran.changes, program)
            if memory is not None and sight is not None:
                memory.keep(
                    key,
                    Remembered(sight=sight, output=record.output, changed=record.changed, changes=ran.changes),
                )
        self._records.append(record)
        return record

    def apply(self, tree: Tree) -> None:
        """Show `tree`: all in which it differs from the tree shown until now, and owners, modes and capabilities.

        What programs changed stays, save where the two trees differ; what they removed is not made again. Raises
        StorageError where a program left no directory to make something in.
        """
        change = update(self._tree, tree, applied=self._applied)
        self._show(change)
        for path, entry in tree.entries.items():
            before = self._tree.get(path)
            if before is not None and before is not entry and self._now.get(path) is before:
                self._now.put(path, entry)
        self._tree = tree
        self._applied = True
        self._left.clear()

    def read(self, path: str, *, limit: int = READ_LIMIT) -> bytes | None:
        """Content of a regular file, symlinks followed inside the root; None when there is none.

        Raises ScriptError when it has more than `limit` bytes.
        """
        try:
            entry = self._now.get(self._now.resolve(path))
        except TreeLookupError:
            return None
        if entry is None or entry.blob is None:
            return None
        if entry.blob.size > limit:
            raise ScriptError(f"/{path} has {entry.blob.size} bytes, more than the {limit} that it may have here")
        return self._store.read(entry.blob)

    def get(self, path: str) -> Entry | None:
        """What is there now."""
        return self._now.get(path)

    def resolve(self, path: str) -> str:
        """A path with the symlinks that are there now followed inside the root. Raises as Tree.resolve() does."""
        return self._now.resolve(path)

    def write(self, path: str, data: bytes, permissions: int = 0o644, *, writer: str) -> None:
        """Write a regular file in an existing directory, replacing what is there; a symlink is replaced, not followed."""
        if name_of(path) in ("", ".", ".."):
            raise ValueError(f"/{path} names no file")
        try:
            place = join(self._now.resolve(parent_of(path)), name_of(path))
        except TreeLookupError as error:
            raise StorageError(f"cannot write /{path}: {error}") from error
        blob = self._store.add_bytes(data, permissions, self._epoch)
        entry = Entry(mode=stat.S_IFREG | permissions, blob=blob, mtime=self._epoch, writer=writer)
        self._show(Update(removed=(place,), made=((place, entry),), adjusted=()))
        self._left[place] = entry

    def restore(self, paths: Sequence[str]) -> None:
        """Show what the tree has at these paths, whatever a program made of them; at a directory's, nothing may be below."""
        entries = tuple((path, self._tree[path]) for path in sorted(paths))
        on_disk = entries if self._applied else tuple((path, as_materialised(entry)) for path, entry in entries)
        removed = tuple(path for path, _ in entries)
        self._show(
            Update(removed=removed, made=entries, adjusted=()), Update(removed=removed, made=on_disk, adjusted=())
        )
        for path in removed:
            self._left.pop(path, None)

    def absorb(self) -> Tree:
        """The tree last applied (or given), with everything that changed since; the writer of a change is its last."""
        for line in self._lost.values():
            self._reporter.warn(line)
        self._lost.clear()
        return self._now.build()

    def _known(self, key: str) -> Remembered | None:
        """What a program did when it saw what it would see now."""
        if self._memory is None:
            return None
        for each in self._memory.recall(key):
            if each.sight.differs(self._now) is None and self._has_contents(each):
                self._memory.used(key)
                return each
        return None

    def _has_contents(self, run: Remembered) -> bool:
        blobs = (change.entry.blob for change in run.changes if change.entry is not None)
        return all(self._store.has(blob) for blob in blobs if blob is not None)

    def _repeat(self, program: Program, known: Remembered) -> ProgramRecord:
        """Do what a program did, without it."""
        if self._live is not None:
            self._live.show(_again(known.changes))
        self._take(known.changes, program)
        return ProgramRecord(
            program=program, status=0, timed_out=False, seconds=0.0, output=known.output, changed=known.changed
        )

    def _sight(self, ran: Ran) -> Sight | None:
        """What a program saw that has just run; None when that cannot be said, or it failed: then it is to run again."""
        if ran.observation is None or ran.record.status or ran.record.timed_out:
            return None
        return sight_of(ran.observation, ran.changes, self._now)

    def _take(self, changes: Sequence[Change], program: Program) -> None:
        writer = f"{program.owner}:{program.phase}"
        # made for the sandbox's mounts, not by a program
        found = [each for each in changes if each.path in self._now or each.path not in MOUNT_POINTS]
        for each in found:
            self._lost.pop(each.path, None)
            for line in lost((each,), writer):
                self._lost[each.path] = line
            if not self._applied and each.entry is not None:
                self._left[each.path] = _linked(each.entry, each.inode)
        take(self._now, found, writer=writer, applied=self._applied)

    def _live_root(self) -> LiveRoot:
        if self._live is None:
            now = self._now.build()
            lower = None
            if self._memory is not None and not self._passing:
                lower = self._stack.enter_context(self._memory.lower())
            self._live = LiveRoot(now, self._store, self._directory, epoch=self._epoch, lower=lower)
            if self._applied:
                self._live.show(with_links(update(now, now, applied=False)))
            elif self._left:
                left = tuple(sorted(self._left.items()))
                self._live.show(with_links(Update(removed=(), made=(), adjusted=left)))
        return self._live

    def _show(self, change: Update, on_disk: Update | None = None) -> None:
        """Change the tree, and what is on disk. on_disk: what to change there, unless it is the same."""
        for path in change.removed:
            self._now.remove(path)
        for path, entry in change.made:
            above = self._now.get(parent_of(path))
            if above is None or not above.is_dir:
                raise StorageError(f"cannot make /{path}: a program left no directory there to make it in")
            present = self._now.get(path)
            if present is not None and present.is_dir and not entry.is_dir:
                self._now.remove(path)
            self._now.put(path, entry)
        for path, entry in change.adjusted:
            present = self._now.get(path)
            if present is not None and stat.S_IFMT(present.mode) == stat.S_IFMT(entry.mode):
                self._now.put(path, entry if present is self._tree.get(path) else adjusted(present, entry))
        if self._live is not None:
            self._live.show(on_disk or change)


def _again(changes: Sequence[Change]) -> Update:
    """What a program changed, as it is to be shown."""
    return Update(
        removed=tuple(each.path for each in changes if each.entry is None or each.opaque),
        made=tuple((each.path, _linked(each.entry, each.inode)) for each in changes if each.entry is not None),
        adjusted=(),
    )


def _linked(entry: Entry, inode: int) -> Entry:
    return replace(entry, link=str(inode)) if inode else entry
