"""The caller's side of a workroot."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from compose import fs
from compose.blobs import BlobStore
from compose.errors import SandboxError, StorageError
from compose.events import Reporter
from compose.process import Program, ProgramRecord
from compose.tree import Tree, name_of
from compose.workroot.materialise import MOUNT_POINTS, as_materialised, materialise
from compose.workroot.merge import Update, lost, merge, update
from compose.workroot.server import Form

READ_LIMIT = 64 << 20
"""Bytes that read() returns at most, unless told otherwise."""
_PROGRAM = "import sys; sys.path[:] = sys.argv[4:]; from compose.workroot.server import serve; serve(*sys.argv[1:4])"
_OWN_NAMES = {"lower", "layers", "root"}


class Workroot:
    """A live root showing `tree`, made in `directory` and gone when the context is left.

    directory: absent, or left behind by a compose that was killed; nobody else uses it meanwhile. Until apply() everything
    that is not plain is root's, and never setuid. epoch: SOURCE_DATE_EPOCH for programs. Raises SandboxError when the machine
    refuses what is needed, StorageError when the disk does.
    """

    def __init__(self, tree: Tree, store: BlobStore, directory: str, *, reporter: Reporter, epoch: int) -> None:
        self._tree = tree
        self._applied = False
        self._lower = tree.entries.keys()
        self._store = store
        self._directory = os.path.abspath(directory)
        self._reporter = reporter
        self._epoch = epoch
        self._process: subprocess.Popen[bytes] | None = None
        self._records: list[ProgramRecord] = []
        self._writers: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._make_directory()
        try:
            materialise(self._tree, self._store, f"{self._directory}/lower")
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM, self._directory, self._store.root, str(self._epoch), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                # nothing of the caller's environment reaches librpm, Lua or a program
                env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"},
                # an interrupt from the terminal is for the compose, which then ends the server
                start_new_session=True,
            )
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make_directory(self) -> None:
        with fs.storage_errors(self._directory):
            if os.path.lexists(self._directory):
                if not os.path.isdir(self._directory) or set(os.listdir(self._directory)) - _OWN_NAMES:
                    raise StorageError(
                        f"{self._directory} holds something that is not of a workroot", hint="remove it by hand"
                    )
                fs.remove_tree(self._directory)
            os.mkdir(self._directory, 0o700)
            for name in ("lower", "root"):
                os.mkdir(f"{self._directory}/{name}")

    def _start(self) -> None:
        form = self._ask("start")
        if form is Form.OVERLAY_IN_MEMORY:
            self._reporter.info(f"{self._directory} cannot hold an overlay's changes: they are kept in memory")
        elif form is Form.COPY:
            self._reporter.warn(f"the kernel refuses an overlay at {self._directory}: every file is copied")
            materialise(self._tree, self._store, f"{self._directory}/root", link_blobs=False)
            self._ask("use_copy")

    def __exit__(self, *exception: object) -> None:
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
        for attempt in range(50):
            # programs of a killed server die a moment after it, and may still be writing
            try:
                fs.remove_tree(self._directory)
                return
            except OSError:
                if attempt == 49:
                    raise
                time.sleep(0.05)

    @property
    def records(self) -> tuple[ProgramRecord, ...]:
        """Every program run so far, in order."""
        return tuple(self._records)

    def run(self, program: Program) -> ProgramRecord:
        """Run a program in the sandbox; whether its status is a failure is for the caller to say.

        Raises SandboxError when it cannot be run: an interpreter that is missing is status 127, as in a shell.
        """
        record: ProgramRecord = self._ask("run", program)
        self._records.append(record)
        self._note(record.changed, f"{program.owner}:{program.phase}")
        return record

    def apply(self, tree: Tree) -> None:
        """Show `tree`: all in which it differs from the tree shown until now, and owners, modes and capabilities.

        What programs changed stays, save where the two trees differ; what they removed is not made again.
        """
        self._ask("apply", update(self._tree, tree, applied=self._applied))
        self._tree = tree
        self._applied = True

    def read(self, path: str, *, limit: int = READ_LIMIT) -> bytes | None:
        """Content of a regular file, symlinks followed inside the root; None when there is none.

        Raises ScriptError when it has more than `limit` bytes.
        """
        data: bytes | None = self._ask("read", path, limit)
        return data

    def exists(self, path: str) -> bool:
        """Is there something, symlinks followed inside the root?"""
        found: bool = self._ask("exists", path)
        return found

    def write(self, path: str, data: bytes, permissions: int = 0o644, *, writer: str) -> None:
        """Write a regular file in an existing directory, replacing what is there; a symlink is replaced, not followed."""
        self._note(self._ask("write", _named(path), data, permissions), writer)

    def restore(self, paths: Sequence[str]) -> None:
        """Show what the tree has at these paths, files or symlinks, whatever a program made of them."""
        entries = [(path, self._tree[path]) for path in sorted(paths)]
        if not self._applied:
            entries = [(path, as_materialised(entry)) for path, entry in entries]
        if entries:
            self._ask("apply", Update(removed=tuple(path for path, _ in entries), made=tuple(entries), adjusted=()))

    def remove(self, path: str, *, writer: str) -> None:
        """Remove a file or a whole directory; a missing one is fine."""
        self._note(self._ask("remove", _named(path)), writer)

    def absorb(self) -> Tree:
        """The tree last applied (or given), with everything that changed since; the writer of a change is its last.

        Raises ScriptError for a name that is not UTF-8.
        """
        changes = [
            change
            for change in self._ask("changes")
            # made for the sandbox's mounts, not by a program
            if change.path in self._tree or change.path not in MOUNT_POINTS
        ]
        for line in lost(changes, self._writers):
            self._reporter.warn(line)
        return merge(self._tree, changes, lower=self._lower, writers=self._writers, applied=self._applied)

    def _note(self, paths: tuple[str, ...], writer: str) -> None:
        self._writers.update(dict.fromkeys(paths, writer))

    def _ask(self, method: str, *arguments: Any) -> Any:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            pickle.dump((method, arguments), process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise SandboxError(f"the workroot's process ended with status {process.wait()}") from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _named(path: str) -> str:
    if name_of(path) in ("", ".", ".."):
        raise ValueError(f"/{path} names no file")
    return path
