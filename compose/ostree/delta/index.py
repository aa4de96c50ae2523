"""Which deltas a repository has, and the file beside them that lists those to one commit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from hashlib import file_digest

from compose import fs
from compose.ostree import refs
from compose.ostree.delta.layout import encode_index, ends_of, index_path
from compose.ostree.repo import Repo


def list_deltas(path: str) -> dict[str, bytes]:
    """sha256 of the superblock of each delta of a repository, by name: "TO", or "FROM-TO", in hex."""
    found: dict[str, bytes] = {}
    top = os.path.join(path, "deltas")
    for first in _names(top):
        for rest in _names(os.path.join(top, first)):
            ends = ends_of(first + rest)
            # one that is removed meanwhile, or is being made by libostree, has none
            with contextlib.suppress(FileNotFoundError):
                if ends is not None:
                    with open(os.path.join(top, first, rest, "superblock"), "rb") as file:
                        found["-".join(ends)] = file_digest(file, "sha256").digest()
    return found


def write_index(repo: Repo, target: str) -> None:
    """List the deltas to a commit where clients look (core.indexed-deltas), by rename. Needs the repository lock, shared.

    Whoever comes last of several writers finds the deltas of all. Raises StorageError.
    """
    path = index_path(target)
    while True:
        found = _leading_to(target, list_deltas(repo.path))
        with fs.storage_errors(os.path.join(repo.path, path)):
            for directory in ("delta-indexes", os.path.dirname(path)):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory, 0o755, dir_fd=repo.fd)
        refs.replace_file(repo.fd, path, encode_index(found), fsync=repo.config.fsync)
        if found == _leading_to(target, list_deltas(repo.path)):
            return


def _leading_to(target: str, deltas: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: digest for name, digest in deltas.items() if name.rpartition("-")[2] == target}


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
