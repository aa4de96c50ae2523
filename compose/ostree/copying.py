"""Copy content objects of another repository, on all cores. None is trusted: each is verified while it is copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compose import fs
from compose.errors import RepositoryError
from compose.ostree import copier, worker
from compose.ostree.config import Mode
from compose.ostree.repo import Repo
from compose.ostree.workers import share_out

TARGETS = (Mode.ARCHIVE, Mode.BARE_USER)
"""Modes of repositories that objects can be copied to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentObject:
    """A content object to copy. checksum: 64 hex digits. size: of its file in the source repository, in bytes."""

    checksum: str
    size: int


def copy_contents(
    source: Repo,
    contents: Sequence[ContentObject],
    setup: copier.Setup,
    staging_lock: int,
    place: str,
    jobs: int,
    on_progress: Callable[[int, int], None],
) -> None:
    """Copy objects with `jobs` processes.

    setup: what the processes are sent first. staging_lock: descriptor of the lock of the staging directory. place: path that is
    written to, for messages. on_progress(objects, bytes of the source) is called from several threads, never concurrently.

    Raises RepositoryError if an object is missing or damaged, or if a process dies, StorageError if an object cannot be
    written.
    """

    def take(places: range, _: None) -> None:
        on_progress(len(places), sum(contents[index].size for index in places))

    def failed(failure: worker.Failure) -> Exception:
        kind, checksum, number, text = failure
        name = f"{checksum}.{source.config.mode.content_extension}"
        if kind == worker.WRITE:
            return fs.storage_error(place, OSError(number, text))
        if kind == worker.READ:
            return source.unreadable(name, text)
        return source.damaged(name, text)

    share_out(
        copier.serve_copier,
        setup,
        [each.size for each in contents],
        jobs,
        lambda batch: [contents[index].checksum for index in batch],
        take,
        failed,
        staging_lock,
    )


def check_copyable(source: Repo, target: Repo) -> None:
    """Raise RepositoryError if content objects cannot be copied from source to target, because of their modes."""
    if target.config.mode not in TARGETS:
        raise RepositoryError(
            f"{target.path} is a {target.config.mode} repository, which cannot be copied to",
            hint="copy to an archive repository, from which clients pull by HTTP, or to a bare-user one",
        )
    if source.config.mode not in (*TARGETS, Mode.BARE):
        raise RepositoryError(
            f"{source.path} is a {source.config.mode} repository, whose objects lack what clients need",
            hint="compose into an archive, bare-user or bare repository",
        )
