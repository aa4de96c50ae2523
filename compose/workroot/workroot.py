"""The caller's side of a workroot."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, Self, TypeVar, cast

from compose import fs
from compose.blobs import BlobStore
from compose.errors import SandboxError
from compose.events import Reporter
from compose.process import Program, ProgramRecord
from compose.tree import Tree
from compose.workroot.materialise import is_plain, materialise

_Answer = TypeVar("_Answer")
_PROGRAM = "import sys; sys.path[:] = sys.argv[4:]; from compose.workroot.server import serve; serve(*sys.argv[1:4])"


class Workroot:
    """A live root showing `tree`, made in `directory` (which must not exist) and gone when the context is left.

    Until apply() everything that is not plain is root's and 0600. epoch: SOURCE_DATE_EPOCH for programs. Raises
    SandboxError when the machine refuses what is needed, StorageError when the disk does.
    """

    def __init__(self, tree: Tree, store: BlobStore, directory: str, *, reporter: Reporter, epoch: int) -> None:
        self._tree = tree
        self._store = store
        self._directory = os.path.abspath(directory)
        self._reporter = reporter
        self._epoch = epoch
        self._process: subprocess.Popen[bytes] | None = None
        self._records: list[ProgramRecord] = []

    def __enter__(self) -> Self:
        with fs.storage_errors(self._directory):
            os.makedirs(f"{self._directory}/lower", mode=0o700)
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
        except BaseException:
            fs.remove_tree(self._directory)
            raise
        return self

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
        """Run a program in the sandbox; whether its status is a failure is for the caller to say."""
        record = self._ask(ProgramRecord, "run", program)
        self._records.append(record)
        return record

    def apply(self, tree: Tree) -> None:
        """Show owners, modes and capabilities of a tree that has the same paths and contents as the one shown."""
        changes = [(path, entry) for path, entry in tree.walk() if not is_plain(entry)]
        self._ask(object, "apply", changes)
        self._tree = tree

    def read(self, path: str) -> bytes | None:
        """Content of a regular file, symlinks followed inside the root; None when there is none."""
        return cast("bytes | None", self._ask(object, "read", path))

    def exists(self, path: str) -> bool:
        return self._ask(bool, "exists", path)

    def write(self, path: str, data: bytes, permissions: int = 0o644, *, writer: str) -> None:
        """Write a regular file in an existing directory, replacing what is there."""
        self._ask(object, "write", path, data, permissions, writer)

    def remove(self, path: str, *, writer: str) -> None:
        """Remove a file or a whole directory; a missing one is fine."""
        self._ask(object, "remove", path, writer)

    def absorb(self) -> Tree:
        """The tree last applied (or given), with everything that changed since."""
        tree, dropped = self._ask(tuple, "absorb", self._tree)
        for each in dropped:
            self._reporter.warn(f"/{each.path} is a {each.what}, which a commit cannot hold: dropped")
        return cast(Tree, tree)

    def _ask(self, kind: type[_Answer], method: str, *arguments: Any) -> _Answer:
        del kind
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
        return cast(_Answer, answer)
