"""Transactions: write objects to a staging directory, then move all of them into the repository, then write refs and summary.

A transaction that is killed before it publishes leaves only a staging directory, which the next one (libostree's too) removes.
It publishes in libostree's order (ostree-repo-commit.c): syncfs, rename the objects, fsync their directories, refs, summary.
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
from compose.errors import ComposeError, RefMovedError, RepositoryError, StorageError
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.ahead import DeflateAhead
from compose.ostree.config import Mode
from compose.ostree.content import Content, ContentStats, Target, write_contents
from compose.ostree.copying import ContentObject, check_copyable, copy_contents
from compose.ostree.gvariant import encode
from compose.ostree.lock import SUMMARY_LOCK, locked
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
from compose.ostree.summary import keeps_signature, write_summary
from compose.ostree.workers import worker_memory

_FLUSH_EVERY = 0.5
"""Interval in seconds between two syncfs calls while objects are written."""
_EXTRA_PROCESSES = 2
"""Processes in addition to `jobs` if large files bypass the page cache, because some wait for the disk: 6 s instead of 7. With
one job there is only one process."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Number of metadata objects (dirtrees, dirmetas and commits), how many of them were new, and the same for content
    objects."""

    metadata_total: int
    metadata_written: int
    content: ContentStats


class Transaction:
    """A context manager: publishes what was written at the end of the block, or discards it if the block raises.

    jobs: processes to write content objects with. Entering raises RepositoryError if the repository cannot be committed to or
    is locked. Everything raises StorageError if the repository cannot be written or is too full.
    """

    def __init__(self, repo: Repo, *, jobs: int, reporter: Reporter) -> None:
        self._repo = repo
        self._jobs = jobs
        self._reporter = reporter
        self._stack = ExitStack()
        self._staging = Staging("", -1)
        self._objects = os.path.join(repo.path, "objects")
        self._presence = Presence(self._objects)
        self._refs: list[tuple[str, str, str | None]] = []
        self._before_refs: list[Callable[[], None]] = []
        # with their detached metadata and signatures
        self._commits: dict[str, tuple[Metadata, list[tuple[str, bytes]]]] = {}
        self._metadata: dict[str, bool] = {}
        self._content = ContentStats()

    def __enter__(self) -> Self:
        repo = self._repo
        repo.check_writable()
        with self._stack:
            self._stack.enter_context(locked(repo, self._reporter, exclusive=False))
            self._check_in_place()
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
        """Write files and symlinks, on all cores. Raises as write_contents() of compose.ostree.content does.

        on_known and on_progress: as there. memo: files whose checksum it knows and whose objects exist are not read; new
        checksums are added to it. ahead: is stopped, and its streams are used.
        """
        config = self._repo.config
        if contents:
            self._check_free_space()
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
        most = self._jobs + (_EXTRA_PROCESSES if direct and self._jobs > 1 else 0)
        jobs = memory.fitting(most, worker_memory(largest), "Writing objects", self._reporter)
        with self._flushing():
            self._content += write_contents(contents, target, jobs, on_known, self._checking_space(on_progress), memo)

    def write_dirmeta(self, uid: int, gid: int, mode: int, xattrs: Xattrs) -> bytes:
        """Write a dirmeta, and return its checksum, 32 bytes. mode: full st_mode. Raises ValueError as encode_xattrs() does."""
        return self._write_metadata(encode_dirmeta(uid, gid, mode, encode_xattrs(xattrs)), "dirmeta")

    def write_dirtree(
        self, files: Sequence[tuple[bytes, bytes]], directories: Sequence[tuple[bytes, bytes, bytes]]
    ) -> bytes:
        """Write a dirtree, and return its checksum, 32 bytes. Arguments and ValueError as of encode_dirtree()."""
        return self._write_metadata(encode_dirtree(files, directories), "dirtree")

    def write_commit(self, commit: Commit, *, detached: Metadata = (), signers: Sequence[Signer] = ()) -> str:
        """Write and sign a commit, and return its checksum, 64 hex digits. detached: metadata that the checksum does not cover;
        it is merged with that of the same commit in the repository, including signatures.

        Raises RepositoryError if the commit cannot be encoded or is larger than clients accept, UsageError if it cannot be
        signed.
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
        """Copy files and symlinks that are missing here, on all cores. on_progress and errors: as of copy_contents() and
        check_copyable() of compose.ostree.copying."""
        repo = self._repo
        check_copyable(source, repo)
        if contents:
            self._check_free_space()
        setup = (
            os.path.join(source.path, "objects"),
            str(source.config.mode),
            self._staging.path,
            str(repo.config.mode),
            repo.config.zlib_level,
        )
        largest = max((each.size for each in contents), default=0)
        jobs = memory.fitting(self._jobs, worker_memory(largest), "Copying objects", self._reporter)
        with self._flushing():
            copy_contents(
                source, contents, setup, self._staging.lock, self._objects, jobs, self._checking_space(on_progress)
            )

    def copy_metadata(self, data: bytes, extension: str) -> None:
        """Write a dirtree or dirmeta of another repository. data: its bytes. extension: "dirtree" or "dirmeta"."""
        self._write_metadata(data, extension)

    def copy_commit(self, data: bytes, *, detached: Metadata, signers: Sequence[Signer] = ()) -> None:
        """Write a commit of another repository. data: its bytes. detached: its metadata there, which is merged as by
        write_commit(). Raises UsageError if it cannot be signed."""
        signed = signed_by(data, signers, self._reporter)
        checksum = self._write_metadata(data, "commit").hex()
        self._commits[checksum] = parted(joined(detached, (), signed))

    def set_ref(self, name: str, checksum: str, *, replaces: str | None = None) -> None:
        """Point a ref to a commit when the transaction is published. Raises RepositoryError if the name is not valid.

        replaces: the commit that the ref must then have, "" if there must be no such ref, None for any. If it has another
        one, publishing raises RefMovedError, and the ref stays.
        """
        refs.validate_ref(name)
        self._refs.append((name, checksum, replaces))

    def before_refs(self, call: Callable[[], None]) -> None:
        """Have something done when the commits are published and no ref has moved yet, so that it is there when a ref is found.
        What it raises keeps the refs where they are."""
        self._before_refs.append(call)

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
    def _flushing(self) -> Iterator[None]:
        """Write data to the disk while the block creates it. Otherwise the disk would be idle until the end. Raises
        StorageError."""
        if not self._repo.config.fsync:
            yield
            return
        ended = threading.Event()
        failures: list[OSError] = []

        def flush() -> None:
            while not ended.wait(_FLUSH_EVERY):
                try:
                    syscalls.syncfs(self._repo.fd)
                except OSError as error:
                    # the kernel reports it only once
                    failures.append(error)

        flusher = threading.Thread(target=flush)
        flusher.start()
        try:
            yield
        finally:
            ended.set()
            flusher.join()
        if failures:
            raise fs.storage_error(self._repo.path, failures[0])

    def _publish(self) -> None:
        repo, fsync = self._repo, self._repo.config.fsync
        # checked again with the lock held; by then objects are published, and would stay without a ref until the next prune
        self._check_refs()
        if fsync:
            syscalls.syncfs(repo.fd)
        self._stage_detached()
        objects = os.open("objects", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=repo.fd)
        try:
            publish_objects(self._staging, objects, fsync=fsync)
            for checksum in self._commits:
                # the commit is complete now, whatever an interrupted pull or a prune has recorded
                for stale in (
                    f"state/{checksum}.commitpartial",
                    f"objects/{object_name(checksum, 'tombstone-commit')}",
                ):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(stale, dir_fd=repo.fd)
        finally:
            os.close(objects)
        for call in self._before_refs:
            call()
        if self._refs:
            # other transactions hold the repository's lock too, shared
            with locked(repo, self._reporter, exclusive=True, name=SUMMARY_LOCK):
                self._check_refs()
                for ref, checksum, _ in self._refs:
                    refs.write_ref(repo.fd, ref, checksum, fsync=fsync)
            # takes that lock itself
            self._refresh_summary()

    def _refresh_summary(self) -> None:
        repo = self._repo
        wanted = repo.has_summary() or repo.config.auto_update_summary
        if not wanted or keeps_signature(repo, self._reporter, "commit"):
            return
        try:
            write_summary(repo, self._reporter)
        except ComposeError as error:
            text = f"the commit is published, but the summary of {repo.path} does not list it: {error.message}"
            hint = error.hint or f"when that is fixed: ostree --repo={repo.path} summary -u"
            if repo.config.auto_update_summary:
                raise type(error)(text, hint=hint, details=error.details) from error
            # the config does not ask for a new summary, and libostree would have kept the old one
            self._reporter.warn(f"{text}; {hint}")

    def _check_refs(self) -> None:
        """Raise RefMovedError if a ref has moved elsewhere meanwhile. `ostree commit`, which takes no lock for that, may
        still move it between this and the write."""
        for name, checksum, replaces in self._refs:
            now = refs.read_ref(self._repo.fd, name) or ""
            if replaces is None or now in (replaces, checksum):
                continue
            if not now:
                what = f"pointed to {replaces}, and was removed"
            elif replaces:
                what = f"moved from {replaces} to {now}"
            else:
                what = f"was created, where there was none, and points to {now}"
            raise RefMovedError(
                f"{self._repo.path}: while a commit was made for the ref {name}, it {what}",
                hint="run the same command again: its commit then follows what is there now"
                if now
                else "run the same command again",
            )

    def _stage_detached(self) -> None:
        """Write detached metadata, merged with what is in the repository. It is read as late as possible, because libostree
        adds signatures without a lock."""
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

    def _check_in_place(self) -> None:
        """Raise RepositoryError if the repository was moved, or another one is in its place, since it was opened. Objects are
        written by path, refs by descriptor."""
        repo = self._repo
        try:
            there = os.path.samestat(os.stat(repo.path), os.fstat(repo.fd))
        except (FileNotFoundError, NotADirectoryError):
            there = False
        if not there:
            raise RepositoryError(
                f"the repository {repo.path} was moved or replaced meanwhile", hint="run the same command again"
            )

    def _check_free_space(self) -> None:
        """Only contents need this space free: what is small, and prunes on a full disk, is written anyway, as by libostree."""
        disk = os.fstatvfs(self._repo.fd)
        free, least = fs.free_bytes(disk), self._repo.config.least_free(disk.f_blocks * disk.f_frsize)
        if free < least:
            raise StorageError(
                f"{self._repo.path}: only {free / 1e6:.0f} MB are free on its disk, and {least / 1e6:.0f} MB must remain free",
                hint="free some space, or set core.min-free-space-size in its config to less, for example to 500MB",
            )
