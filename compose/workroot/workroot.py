"""The caller's side of a workroot: a tree that programs change, and a live root once a program must run."""

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
from compose.workroot.merge import Update, adjusted, apply_changes, lost, update, with_links
from compose.workroot.server import RunResult
from compose.workroot.sight import Sight, sight_of

READ_LIMIT = 64 << 20
"""Default limit of read(), in bytes."""


class Workroot:
    """A root directory showing `tree`, in which programs run; a context manager.

    directory: where the root is on disk, removed on exit; absent, or left behind by a killed compose, and used by nobody else.
    epoch: SOURCE_DATE_EPOCH for programs. memory: programs that would do what they did before are replayed from it; the root
    is written to disk only once one must run. passing: the next live root will show a very different tree, so this one's lower
    layer is not worth keeping. foreign: another architecture than this machine's, of which programs are to run.
    Until apply(), whatever is not plain is owned by root and never setuid. Raises SandboxError when the machine refuses the
    sandbox, StorageError when the disk fails.
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
        foreign: str | None = None,
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
        self._foreign = foreign
        self._live: LiveRoot | None = None
        self._stack = ExitStack()
        self._records: list[ProgramRecord] = []
        # what programs wrote before apply(), as it is on disk
        self._written: dict[str, Entry] = {}
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
        """Run a program in the sandbox, or replay it from memory. The caller must check its status.

        A missing interpreter is status 127, as in a shell. Raises SandboxError when the sandbox cannot be set up, ScriptError
        for a name or symlink target that is not UTF-8 or a sparse file that does not fit on the disk, StorageError.
        """
        memory = self._memory if self._mounts_hide_nothing() else None
        key = key_of(program, self._epoch, applied=self._applied, foreign=self._foreign) if memory is not None else ""
        known = self._known(memory, key) if memory is not None else None
        if known is not None:
            record = self._replay(program, known)
        else:
            result = self._live_root().run(program, observed=memory is not None)
            record = result.record
            sight = self._sight(result)
            self._take(result.changes, program)
            if memory is not None and sight is not None:
                memory.keep(
                    key,
                    Remembered(sight=sight, output=record.output, changed=record.changed, changes=result.changes),
                )
        self._records.append(record)
        return record

    def apply(self, tree: Tree) -> None:
        """Show `tree` in full: all differences from the previous tree, and owners, modes and capabilities.

        Changes by programs stay, except where the two trees differ; what they removed is not restored. Raises StorageError if
        a program has removed or replaced the directory of a path to make.
        """
        change = update(self._tree, tree, applied=self._applied)
        self._show(change)
        for path, entry in tree.entries.items():
            before = self._tree.get(path)
            if before is not None and before is not entry and self._now.get(path) is before:
                self._now.put(path, entry)
        self._tree = tree
        self._applied = True
        self._written.clear()

    def read(self, path: str, *, limit: int = READ_LIMIT) -> bytes | None:
        """Content of a regular file, symlinks followed inside the root; None if there is none.

        Raises ScriptError for more than `limit` bytes.
        """
        try:
            entry = self._now.get(self._now.resolve(path))
        except TreeLookupError:
            return None
        if entry is None or entry.blob is None:
            return None
        if entry.blob.size > limit:
            raise ScriptError(f"/{path} has {entry.blob.size} bytes, but at most {limit} are allowed")
        return self._store.read(entry.blob)

    def get(self, path: str) -> Entry | None:
        """The current entry at a path; symlinks are not followed."""
        return self._now.get(path)

    def resolve(self, path: str) -> str:
        """Resolve a path in the current tree. See Tree.resolve()."""
        return self._now.resolve(path)

    def write(self, path: str, data: bytes, permissions: int = 0o644, *, writer: str) -> None:
        """Write a regular file in an existing directory, replacing what is there; a symlink is replaced, not followed.

        Raises StorageError.
        """
        if name_of(path) in ("", ".", ".."):
            raise ValueError(f"/{path} names no file")
        try:
            place = join(self._now.resolve(parent_of(path)), name_of(path))
        except TreeLookupError as error:
            raise StorageError(f"cannot write /{path}: {error}") from error
        blob = self._store.add_bytes(data, permissions, self._epoch)
        entry = Entry(mode=stat.S_IFREG | permissions, blob=blob, mtime=self._epoch, writer=writer)
        self._show(Update(removed=(place,), made=((place, entry),), adjusted=()))
        self._written[place] = entry

    def restore(self, paths: Sequence[str]) -> None:
        """Restore these paths to what the tree has, whatever a program made of them; directories must be empty.

        Raises StorageError.
        """
        entries = tuple((path, self._tree[path]) for path in sorted(paths))
        on_disk = entries if self._applied else tuple((path, as_materialised(entry)) for path, entry in entries)
        removed = tuple(path for path, _ in entries)
        self._show(
            Update(removed=removed, made=entries, adjusted=()), Update(removed=removed, made=on_disk, adjusted=())
        )
        for path in removed:
            self._written.pop(path, None)

    def absorb(self) -> Tree:
        """The tree last applied (or given) with all changes since, each by its last writer. Warns of what was dropped."""
        for line in self._lost.values():
            self._reporter.warn(line)
        self._lost.clear()
        return self._now.build()

    def _mounts_hide_nothing(self) -> bool:
        """Do paths like /tmp/x say nothing about the tree? Where /tmp is a symlink to a directory, they are in the tree."""
        for path in MOUNT_POINTS:
            try:
                place = self._now.resolve(path)
            except TreeLookupError:
                continue
            if place != path and self._now.get(place) is not None:
                return False
        return True

    def _known(self, memory: ProgramMemory, key: str) -> Remembered | None:
        """The remembered run of a program that saw what it would see now."""
        for run in memory.recall(key):
            if run.sight.differs(self._now) is None and self._has_contents(run):
                memory.used(key)
                return run
        return None

    def _has_contents(self, run: Remembered) -> bool:
        blobs = (change.entry.blob for change in run.changes if change.entry is not None)
        return all(self._store.has(blob) for blob in blobs if blob is not None)

    def _replay(self, program: Program, known: Remembered) -> ProgramRecord:
        """Apply the changes of a remembered run."""
        if self._live is not None:
            self._live.show(_replayed(known.changes))
        self._take(known.changes, program)
        return ProgramRecord(
            program=program, status=0, timed_out=False, seconds=0.0, output=known.output, changed=known.changed
        )

    def _sight(self, result: RunResult) -> Sight | None:
        """What a program saw in a run worth remembering; None if that is unknown or the program failed."""
        if result.observation is None or result.record.failure:
            return None
        return sight_of(result.observation, result.changes, self._now)

    def _take(self, changes: Sequence[Change], program: Program) -> None:
        writer = f"{program.owner}:{program.phase}"
        # leave out mount points made for the sandbox, not by a program
        own = [change for change in changes if change.path in self._now or change.path not in MOUNT_POINTS]
        for change in own:
            self._lost.pop(change.path, None)
            for line in lost((change,), writer):
                self._lost[change.path] = line
            if not self._applied and change.entry is not None:
                self._written[change.path] = _linked(change.entry, change.inode)
        apply_changes(self._now, own, writer=writer, applied=self._applied)

    def _live_root(self) -> LiveRoot:
        if self._live is None:
            now = self._now.build()
            lower = None
            if self._memory is not None and not self._passing:
                lower = self._stack.enter_context(self._memory.lower())
            self._live = LiveRoot(
                now, self._store, self._directory, epoch=self._epoch, lower=lower, foreign=self._foreign
            )
            if self._applied:
                self._live.show(with_links(update(now, now, applied=False)))
            elif self._written:
                written = tuple(sorted(self._written.items()))
                self._live.show(with_links(Update(removed=(), made=(), adjusted=written)))
        return self._live

    def _show(self, change: Update, on_disk: Update | None = None) -> None:
        """Update the tree and the live root. on_disk: the update for the live root, if it differs. Raises StorageError."""
        for path in change.removed:
            self._now.remove(path)
        for path, entry in change.made:
            parent = self._now.get(parent_of(path))
            if parent is None or not parent.is_dir:
                raise StorageError(f"cannot make /{path}: a program removed or replaced its directory")
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


def _replayed(changes: Sequence[Change]) -> Update:
    """The update that makes a live root show a program's changes."""
    return Update(
        removed=tuple(change.path for change in changes if change.entry is None or change.opaque),
        made=tuple(
            (change.path, _linked(change.entry, change.inode)) for change in changes if change.entry is not None
        ),
        adjusted=(),
    )


def _linked(entry: Entry, inode: int) -> Entry:
    return replace(entry, link=str(inode)) if inode else entry
