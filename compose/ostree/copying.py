"""Content objects of another repository, copied on all cores. None is trusted: each is hashed on the way."""

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
"""Modes of repositories that are copied to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentObject:
    """checksum: 64 hex digits. size: bytes of its file in the repository that it is copied from."""

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
    """place: what is written to, for messages. on_progress(objects, bytes of the source) may come from
    any thread, one call at a time.

    Raises RepositoryError for an object that is missing or damaged, or when a process dies, StorageError when the disk
    refuses.
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
    """Raise RepositoryError when objects of one repository cannot become those of another."""
    if target.config.mode not in TARGETS:
        raise RepositoryError(
            f"{target.path} is a {target.config.mode} repository, which is not copied to",
            hint="copy to an archive repository, or a bare-user one; clients pull from the first by HTTP",
        )
    if source.config.mode not in (*TARGETS, Mode.BARE):
        raise RepositoryError(
            f"{source.path} is a {source.config.mode} repository, whose objects have not all that a client gets",
            hint="compose into an archive, bare-user or bare repository",
        )
