"""One transaction: objects into a staging directory, then all of them into the repository, then refs, then the summary.

What is killed on the way leaves a staging directory and nothing else; the next transaction (libostree's too) removes it.
The order is libostree's (ostree-repo-commit.c): syncfs, rename every object, fsync the directories, refs, summary.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self

from compose import fs, memory, syscalls
from compose.errors import ComposeError, RepositoryError, StorageError
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.ahead import DeflateAhead
from compose.ostree.config import Mode
from compose.ostree.content import Content, ContentStats, Target, write_contents
from compose.ostree.copying import ContentObject, check_copyable, copy_contents
from compose.ostree.gvariant import encode
from compose.ostree.lock import locked
from compose.ostree.memo import ContentMemo
from compose.ostree.objects import (
    Commit,
    Metadata,
    Xattrs,
    encode_commit,
    encode_dirmeta,
    encode_dirtree,
    encode_xattrs,
    object_name,
)
from compose.ostree.presence import Presence
from compose.ostree.repo import Repo
from compose.ostree.sign import joined, parted
from compose.ostree.signers import Signer, signed_by
from compose.ostree.staging import Staging, publish_objects, remove_leftovers, staging_directory, write_staged
from compose.ostree.summary import write_summary
from compose.ostree.workers import worker_memory

_FLUSH_EVERY = 0.5
"""Seconds."""
_WAITING = 2
"""Processes more than cores where large files go past the page cache, for some wait for the disk: 6 s instead of 7. Who wants
one gets one."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a transaction asked for and what of it was new."""

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
        self._staging = Staging("", -1)
        self._objects = os.path.join(repo.path, "objects")
        self._presence = Presence(self._objects)
        self._refs: list[tuple[str, str]] = []
        # with what is to be beside them
        self._commits: dict[str, tuple[Metadata, list[tuple[str, bytes]]]] = {}
        self._metadata: dict[str, bool] = {}
        self._content = ContentStats()

    def __enter__(self) -> Self:
        repo = self._repo
        repo.check_writable()
        with self._stack:
            self._stack.enter_context(locked(repo, self._reporter, exclusive=False))
            self._check_free_space()
            remove_leftovers(repo.path)
            self._staging = self._stack.enter_context(staging_directory(repo.path))
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

    def write_contents(
        self,
        contents: Sequence[Content],
        on_known: Callable[[Iterable[tuple[int, bytes]]], None],
        on_progress: Callable[[int, int], None],
        memo: ContentMemo | None = None,
        ahead: DeflateAhead | None = None,
    ) -> None:
        """Write files and symlinks on all cores.

        on_known(places in contents, each with its checksum, 32 bytes): as they are learned, never two calls at once.
        on_progress(objects, bytes). Both may be called from any thread. memo: a file whose checksum it knows and whose object
        is in the repository is not read; what is learned goes into it. ahead: is stopped, and its streams are used.
        """
        config = self._repo.config
        direct = config.fsync and config.mode is not Mode.ARCHIVE
        target = Target(
            mode=config.mode,
            objects=self._objects,
            presence=self._presence,
            staging=self._staging.path,
            lock=self._staging.lock,
            direct=direct,
            level=config.zlib_level,
            spools=ahead.spools if ahead is not None else (),
            streams=ahead.finish() if ahead is not None else {},
        )
        largest = max((content.size for content in contents), default=0)
        most = self._jobs + (_WAITING if direct and self._jobs > 1 else 0)
        jobs = memory.fitting(most, worker_memory(largest), "Writing objects", self._reporter)
        with self._flushed_meanwhile():
            self._content += write_contents(contents, target, jobs, on_known, self._checking_space(on_progress), memo)

    def write_dirmeta(self, uid: int, gid: int, mode: int, xattrs: Xattrs) -> bytes:
        """mode: full st_mode. Returns the checksum, 32 bytes."""
        return self._write_metadata(encode_dirmeta(uid, gid, mode, encode_xattrs(xattrs)), "dirmeta")

    def write_dirtree(
        self, files: Sequence[tuple[bytes, bytes]], directories: Sequence[tuple[bytes, bytes, bytes]]
    ) -> bytes:
        """Both sorted by name; see encode_dirtree(). Returns the checksum, 32 bytes."""
        return self._write_metadata(encode_dirtree(files, directories), "dirtree")

    def write_commit(self, commit: Commit, *, detached: Metadata = (), signers: Sequence[Signer] = ()) -> str:
        """Returns the checksum, 64 hex digits. detached: metadata beside the commit, not part of its checksum; what else is
        beside it already stays, signatures too.

        Raises RepositoryError when the commit is larger than clients take, UsageError when it cannot be signed.
        """
        try:
            data = encode_commit(commit)
        except ValueError as error:
            raise RepositoryError(str(error)) from error
        signatures = signed_by(data, signers, self._reporter)
        checksum = self._write_metadata(data, "commit").hex()
        self._commits[checksum] = detached, signatures
        return checksum

    def copy_contents(
        self, source: Repo, contents: Sequence[ContentObject], on_progress: Callable[[int, int], None]
    ) -> None:
        """Copy files and symlinks that are missing, on all cores. on_progress: as copy_contents() of compose.ostree.copying
        has it."""
        repo = self._repo
        check_copyable(source, repo)
        setup = (
            os.path.join(source.path, "objects"),
            str(source.config.mode),
            self._staging.path,
            str(repo.config.mode),
            repo.config.zlib_level,
        )
        largest = max((each.size for each in contents), default=0)
        jobs = memory.fitting(self._jobs, worker_memory(largest), "Copying objects", self._reporter)
        with self._flushed_meanwhile():
            copy_contents(
                source, contents, setup, self._staging.lock, self._objects, jobs, self._checking_space(on_progress)
            )

    def copy_metadata(self, data: bytes, extension: str) -> None:
        """Write a dirtree or dirmeta of another repository as it is there."""
        self._write_metadata(data, extension)

    def copy_commit(self, data: bytes, *, detached: Metadata, signers: Sequence[Signer] = ()) -> None:
        """Write a commit object of another repository as it is there, and what is beside it: signatures of detached, and
        those of signers, are added to those that are here. Raises UsageError when it cannot be signed."""
        signed = signed_by(data, signers, self._reporter)
        checksum = self._write_metadata(data, "commit").hex()
        self._commits[checksum] = parted(joined(detached, (), signed))

    def set_ref(self, name: str, checksum: str) -> None:
        """Move a ref when the transaction is published."""
        refs.validate_ref(name)
        self._refs.append((name, checksum))

    def _write_metadata(self, data: bytes, extension: str) -> bytes:
        checksum = hashlib.sha256(data).digest()
        name = object_name(checksum.hex(), extension)
        if name not in self._metadata:
            new = not self._presence.metadata(name)
            if new:
                write_staged(self._staging, name, data)
            self._metadata[name] = new
        return checksum

    @contextmanager
    def _flushed_meanwhile(self) -> Iterator[None]:
        """What is written in the block is brought to disk while it is: the disk would have nothing to do until all of it must
        be there."""
        if not self._repo.config.fsync:
            yield
            return
        over = threading.Event()
        failures: list[OSError] = []

        def flush() -> None:
            while not over.wait(_FLUSH_EVERY):
                try:
                    syscalls.syncfs(self._repo.fd)
                except OSError as error:
                    # the kernel tells of it only once
                    failures.append(error)

        flusher = threading.Thread(target=flush)
        flusher.start()
        try:
            yield
        finally:
            over.set()
            flusher.join()
        if failures:
            raise fs.storage_error(self._repo.path, failures[0])

    def _publish(self) -> None:
        repo, fsync = self._repo, self._repo.config.fsync
        if fsync:
            syscalls.syncfs(repo.fd)
        self._stage_detached()
        objects = os.open("objects", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=repo.fd)
        try:
            publish_objects(self._staging, objects, fsync=fsync)
            for checksum in self._commits:
                # it is whole now, whatever an interrupted pull or a prune has noted
                for stale in (
                    f"state/{checksum}.commitpartial",
                    f"objects/{object_name(checksum, 'tombstone-commit')}",
                ):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(stale, dir_fd=repo.fd)
        finally:
            os.close(objects)
        for ref, checksum in self._refs:
            refs.write_ref(repo.fd, ref, checksum, fsync=fsync)
        if self._refs and (repo.config.auto_update_summary or repo.has_summary()):
            try:
                write_summary(repo, self._reporter)
            except ComposeError as error:
                text = f"the commit is published, but not in the summary of {repo.path}: {error.message}"
                hint = error.hint or f"when that is mended: ostree --repo={repo.path} summary -u"
                if repo.config.auto_update_summary:
                    raise type(error)(text, hint=hint) from error
                # nobody asked for it: libostree would have left it as it was
                self._reporter.warn(f"{text}; {hint}")

    def _stage_detached(self) -> None:
        """Others may have signed a commit that was there already. They take no lock to do it (libostree does not), so what is
        beside it is looked at as late as can be."""
        for checksum, (detached, signatures) in self._commits.items():
            if not detached and not signatures:
                continue
            present = self._repo.read_detached(checksum)
            data = encode("a{sv}", joined(present, detached, signatures))
            if data != encode("a{sv}", present):
                write_staged(self._staging, object_name(checksum, "commitmeta"), data, fsync=self._repo.config.fsync)

    def _checking_space(self, on_progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def progress(objects: int, size: int) -> None:
            on_progress(objects, size)
            self._check_free_space()

        return progress

    def _check_free_space(self) -> None:
        config, disk = self._repo.config, os.fstatvfs(self._repo.fd)
        # libostree counts what is reserved for root as free too
        free = disk.f_bfree * disk.f_frsize
        least = config.min_free_bytes
        if least is None:
            least = disk.f_blocks * disk.f_frsize * config.min_free_percent // 100
        if free < least:
            key = "percent" if config.min_free_bytes is None else "size"
            raise StorageError(
                f"{self._repo.path}: {free / 1e6:.0f} MB free, the repository wants to keep {least / 1e6:.0f} MB free",
                hint=f"free some space, or lower core.min-free-space-{key} in the repository's config",
            )
