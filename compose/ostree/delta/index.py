"""Which deltas a repository has, and the file beside them that lists those to one commit."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from typing import TypeVar

from compose import fs
from compose.errors import RepositoryError
from compose.ostree import refs
from compose.ostree.delta.layout import encode_index, ends_of, index_path
from compose.ostree.repo import Repo

_Read = TypeVar("_Read")


def delta_directories(path: str) -> Iterator[tuple[str, str]]:
    """Name ("TO", or "FROM-TO", in hex) and directory of each delta of a repository; what else lies there is passed over."""
    top = os.path.join(path, "deltas")
    for first in _names(top):
        for rest in _names(os.path.join(top, first)):
            if (ends := ends_of(first + rest)) is not None:
                yield "-".join(ends), os.path.join(top, first, rest)


def list_deltas(
    path: str, superblocks: Mapping[str, bytes] | None = None, *, target: str | None = None
) -> dict[str, bytes]:
    """sha256 of the superblock of each delta of a repository, by name. superblocks: as if they had been replaced, by name.
    target: only those that lead to this commit. Raises RepositoryError if one cannot be read."""
    found: dict[str, bytes] = {}
    for name, directory in delta_directories(path):
        if target is not None and name.rpartition("-")[2] != target:
            continue
        if superblocks is not None and name in superblocks:
            found[name] = hashlib.sha256(superblocks[name]).digest()
        elif digest := read_superblock(directory, lambda file: hashlib.file_digest(file, "sha256").digest()):
            found[name] = digest
    return found


def read_superblock(directory: str, read: Callable[[BufferedReader], _Read]) -> _Read | None:
    """Open the superblock of a delta and read it; None if there is none, because the delta is removed meanwhile or libostree is
    making it. Raises RepositoryError if it cannot be read."""
    path = os.path.join(directory, "superblock")
    try:
        with fs.open_regular(path) as file:
            return read(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = "remove the directory of the static delta" if error.errno in (errno.EINVAL, errno.EISDIR) else None
        raise RepositoryError(f"{path} cannot be read: {error.strerror}", hint=hint) from error


def write_index(repo: Repo, target: str) -> None:
    """List the deltas to a commit where clients look (core.indexed-deltas), by rename. Needs the repository lock, shared, and
    SUMMARY_LOCK.

    libostree takes neither: a delta that it makes meanwhile is listed too. Raises StorageError.
    """
    path = index_path(target)
    while True:
        found = list_deltas(repo.path, target=target)
        place = os.path.join(repo.path, path)
        with fs.obstacles(place), fs.storage_errors(place):
            for directory in ("delta-indexes", os.path.dirname(path)):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory, 0o755, dir_fd=repo.fd)
            refs.replace_file(repo.fd, path, encode_index(found), fsync=repo.config.fsync)
        if found == list_deltas(repo.path, target=target):
            return


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
