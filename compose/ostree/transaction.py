"""One transaction: objects into a staging directory, then all of them into the repository, then refs, then the summary.

What is killed on the way leaves a staging directory and nothing else; the next transaction (libostree's too) removes it.
The order is libostree's (ostree-repo-commit.c): syncfs, rename every object, fsync the directories, refs, summary.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from compose import fs
from compose.errors import RepositoryError, StorageError
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.content import Content, ContentStats, Target, write_contents
from compose.ostree.lock import locked, try_lock
from compose.ostree.objects import Commit, Xattrs, encode_commit, encode_dirmeta, encode_dirtree, encode_xattrs
from compose.ostree.repo import Repo
from compose.ostree.summary import write_summary

_DEFAULT_LEVEL = 5
"""Of libdeflate: the fastest level whose streams are no larger than zlib's level 6 (which `ostree commit` uses)."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a transaction asked for and what of it was new. bytes_written: of content objects."""

    metadata_total: int
    metadata_written: int
    content: ContentStats


class Transaction:
    """Use as a context manager: what was written is published when the block ends well, dropped when it does not.

    Raises RepositoryError when another process holds the repository, StorageError when the disk refuses.
    """

    def __init__(self, repo: Repo, *, jobs: int, reporter: Reporter) -> None:
        self._repo = repo
        self._jobs = jobs
        self._reporter = reporter
        self._stack = ExitStack()
        self._staging = ""
        self._refs: list[tuple[str, str]] = []
        self._metadata: dict[str, bool] = {}
        self._content = ContentStats()

    def __enter__(self) -> Self:
        repo = self._repo
        repo.check_writable()
        with self._stack:
            if repo.config.locking:
                self._stack.enter_context(
                    locked(
                        repo.fd, repo.path, exclusive=False, timeout=repo.config.lock_timeout, reporter=self._reporter
                    )
                )
            self._check_free_space()
            self._remove_leftovers()
            self._staging = self._stack.enter_context(self._staging_directory())
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        with self._stack:
            if error is None:
                with fs.storage_errors(self._repo.path):
                    self._publish()

    @property
    def stats(self) -> Stats:
        return Stats(len(self._metadata), sum(self._metadata.values()), self._content)

    def write_contents(self, contents: Sequence[Content], on_progress: Callable[[int, int], None]) -> list[bytes]:
        """Write files and symlinks on all cores; their checksums (32 bytes each) in the order given.

        on_progress(objects, bytes) may be called from any thread.
        """

        def progress(objects: int, size: int) -> None:
            on_progress(objects, size)
            self._check_free_space()

        level = self._repo.config.zlib_level
        target = Target(
            mode=self._repo.config.mode,
            objects=os.path.join(self._repo.path, "objects"),
            staging=self._staging,
            level=_DEFAULT_LEVEL if level is None else level,
        )
        checksums, stats = write_contents(contents, target, self._jobs, progress)
        self._content += stats
        return checksums

    def write_dirmeta(self, uid: int, gid: int, mode: int, xattrs: Xattrs) -> bytes:
        """mode: full st_mode. Returns the checksum, 32 bytes."""
        return self._write_metadata(encode_dirmeta(uid, gid, mode, encode_xattrs(xattrs)), "dirmeta")

    def write_dirtree(
        self, files: Sequence[tuple[bytes, bytes]], directories: Sequence[tuple[bytes, bytes, bytes]]
    ) -> bytes:
        """Both sorted by name; see encode_dirtree(). Returns the checksum, 32 bytes."""
        return self._write_metadata(encode_dirtree(files, directories), "dirtree")

    def write_commit(self, commit: Commit) -> str:
        """Returns the checksum, 64 hex digits. Raises RepositoryError when the commit is larger than clients take."""
        try:
            data = encode_commit(commit)
        except ValueError as error:
            raise RepositoryError(str(error)) from error
        return self._write_metadata(data, "commit").hex()

    def set_ref(self, name: str, checksum: str) -> None:
        """Move a ref when the transaction is published."""
        refs.validate_ref(name)
        self._refs.append((name, checksum))

    def _write_metadata(self, data: bytes, extension: str) -> bytes:
        checksum = hashlib.sha256(data).digest()
        text = checksum.hex()
        name = f"{text[:2]}/{text[2:]}.{extension}"
        if name in self._metadata:
            return checksum
        new = not os.path.exists(os.path.join(self._repo.path, "objects", name))
        if new:
            path = os.path.join(self._staging, name)
            with fs.storage_errors(path):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(os.path.dirname(path), 0o777)
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                try:
                    fs.write_all(fd, data)
                finally:
                    os.close(fd)
        self._metadata[name] = new
        return checksum

    def _publish(self) -> None:
        repo, fsync = self._repo, self._repo.config.fsync
        if fsync:
            fs.syncfs(repo.fd)
        objects = os.open("objects", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=repo.fd)
        staging = os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # commits last: whoever finds a commit object finds all that it names
            names = sorted(_staged(self._staging), key=lambda name: name.endswith(".commit"))
            touched = {name[:2] for name in names}
            for each in touched:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(each, 0o777, dir_fd=objects)
            for name in names:
                # one that is there already holds the same bytes: its name is their checksum
                fs.rename_noreplace(name, name, src_dir_fd=staging, dst_dir_fd=objects)
            if fsync:
                for each in touched:
                    fd = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=objects)
                    try:
                        os.fsync(fd)
                    finally:
                        os.close(fd)
                os.fsync(objects)
        finally:
            os.close(staging)
            os.close(objects)
        for ref, checksum in self._refs:
            refs.write_ref(repo.fd, ref, checksum, fsync=fsync)
        if self._refs and (repo.config.auto_update_summary or os.path.exists(os.path.join(repo.path, "summary"))):
            write_summary(repo)

    def _check_free_space(self) -> None:
        config, disk = self._repo.config, os.fstatvfs(self._repo.fd)
        free = disk.f_bavail * disk.f_frsize
        least = config.min_free_bytes
        if least is None:
            least = disk.f_blocks * disk.f_frsize * config.min_free_percent // 100
        if free < least:
            raise StorageError(
                f"{self._repo.path}: {free / 1e6:.0f} MB free, the repository wants to keep {least / 1e6:.0f} MB free",
                hint="free some space, or lower core.min-free-space-percent in the repository's config",
            )

    @contextlib.contextmanager
    def _staging_directory(self) -> Iterator[str]:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        with fs.storage_errors(self._repo.path):
            name = f"staging-{boot}-{secrets.token_urlsafe(5)[:6].replace('-', 'x').replace('_', 'y')}"
            path = os.path.join(self._repo.path, "tmp", name)
            lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                try_lock(lock, exclusive=True)
                os.mkdir(path, 0o775)
                yield path
            finally:
                fs.remove_tree(path)
                os.unlink(f"{path}-lock")
                os.close(lock)

    def _remove_leftovers(self) -> None:
        """Staging directories whose lock nobody holds: their transaction was killed."""
        top = os.path.join(self._repo.path, "tmp")
        for name in os.listdir(top):
            if not name.startswith("staging-") or name.endswith("-lock"):
                continue
            path = os.path.join(top, name)
            try:
                fd = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                continue
            try:
                if try_lock(fd, exclusive=True):
                    fs.remove_tree(path)
                    os.unlink(f"{path}-lock")
            finally:
                os.close(fd)


def _staged(staging: str) -> Iterator[str]:
    for directory in os.listdir(staging):
        for name in os.listdir(os.path.join(staging, directory)):
            yield f"{directory}/{name}"
