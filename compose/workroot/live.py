"""A live root: a tree on disk, and the client of the process that runs programs in it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from compose import fs
from compose.blobs import BlobStore
from compose.errors import SandboxError, StorageError
from compose.interpreter import python
from compose.limits import OUT_OF_MEMORY, signal_name
from compose.process import Program
from compose.sandbox.identity import Identity, remove_tree
from compose.tree import Tree
from compose.workroot.materialise import materialise
from compose.workroot.merge import Update
from compose.workroot.server import Form, Rung, RunResult

if TYPE_CHECKING:
    # needs a module that `compose doctor` looks for
    from compose.workroot.memory import Lower

_PROGRAM = "from compose.workroot.server import serve; serve(*sys.argv[1:])"
_OWN_NAMES = {"lower", "layers", "root"}


class LiveRoot:
    """A directory that shows `tree` as materialise() writes it, and the process that runs programs in it, until close().

    directory: from make_directory(). lower: an earlier lower layer, updated and kept; None to create one from scratch.
    foreign: another architecture than this machine's, of which programs are to run. rung: how the sandbox is set up on this
    machine. Raises SandboxError when the machine refuses it, StorageError when the disk fails.
    """

    def __init__(
        self,
        tree: Tree,
        store: BlobStore,
        directory: str,
        *,
        epoch: int,
        lower: Lower | None = None,
        foreign: str | None = None,
    ) -> None:
        self._store = store
        self._directory = directory
        self.rung: Rung
        self._pending: list[Update] = []
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if lower is None:
                materialise(tree, store, f"{directory}/lower")
            else:
                os.rmdir(f"{directory}/lower")
                os.symlink(lower.directory, f"{directory}/lower")
                shown, lower.shown = lower.shown, None
                materialise(tree, store, lower.directory, shown=shown)
                lower.shown = tree
            self._process = subprocess.Popen(
                python(_PROGRAM, directory, store.root, str(epoch), foreign or ""),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                # the caller's environment must not reach librpm, Lua or a program
                env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"},
                # an interrupt from the terminal goes to the compose only, which then kills the server
                start_new_session=True,
            )
            self._start(tree)
        except BaseException:
            self.close()
            raise

    def _start(self, tree: Tree) -> None:
        entered: Identity = self._call("enter")
        self.rung = Rung(identity=entered, form=self._call("mount"))
        if self.rung.form is Form.COPY:
            materialise(tree, self._store, f"{self._directory}/root", link_blobs=False)
            self._call("use_copy")

    def run(self, program: Program, *, observed: bool) -> RunResult:
        """Run a program in the sandbox.

        A missing interpreter is status 127, not an error. Raises SandboxError when the sandbox cannot be set up, StorageError,
        and what Server.run() raises.
        """
        updates, self._pending = tuple(self._pending), []
        # the server opens the store by its name, and does not know what it borrows
        for blob in (entry.blob for each in updates for _, entry in each.made):
            if blob is not None:
                self._store.keep(blob)
        result: RunResult = self._call("run", program, observed, updates)
        return result

    def show(self, update: Update) -> None:
        """Change what later programs see. What programs removed or replaced meanwhile is not restored."""
        # applied together before the next program runs: a new snapshot after each would cost more than the change
        self._pending.append(update)

    def close(self) -> None:
        """Kill the server and remove the directory. Raises OSError, SandboxError."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
        for attempt in range(50):
            # programs die a moment after their server is killed, and may still be writing
            try:
                remove_tree(self._directory)
                return
            except (OSError, SandboxError):
                if attempt == 49:
                    raise
                time.sleep(0.05)

    def _call(self, method: str, *arguments: Any) -> Any:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            pickle.dump((method, arguments), process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            status = process.wait()
            how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
            hint = OUT_OF_MEMORY if status == -signal.SIGKILL else None
            raise SandboxError(f"the workroot's server {how}", hint=hint) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


def make_directory(directory: str) -> None:
    """Create an empty private directory for a live root, replacing one left behind. Raises StorageError."""
    with fs.storage_errors(directory):
        if os.path.lexists(directory):
            if not os.path.isdir(directory) or set(os.listdir(directory)) - _OWN_NAMES:
                raise StorageError(f"{directory} exists and is not a workroot", hint="remove it by hand")
            remove_tree(directory)
        os.mkdir(directory, 0o700)
        for name in ("lower", "root"):
            os.mkdir(f"{directory}/{name}")
