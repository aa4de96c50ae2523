"""Keep the signatures in static deltas up to date.

A superblock holds the detached metadata that its commit had when the delta was made, and clients verify the commit with that. A
signature made later must get into the superblocks too, or clients that require it refuse the update.
"""

from __future__ import annotations

import os
from pathlib import Path

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.delta.index import delta_directories, write_index
from compose.ostree.delta.layout import index_path, is_signed, replace_detached
from compose.ostree.repo import Repo


def update_signatures(repo: Repo, target: str, reporter: Reporter) -> int:
    """Write the current detached metadata of a commit into the superblocks of the deltas that lead to it, and list these in the
    index; returns how many changed. The summary is left alone. Needs the repository lock, shared.

    A delta that is signed itself is left as it is, with a warning. Raises RepositoryError if a superblock is damaged,
    StorageError.
    """
    detached = repo.read_detached_bytes(target)
    changed = 0
    for name, directory in list(delta_directories(repo.path)):
        if name.rpartition("-")[2] != target:
            continue
        path = os.path.join(directory, "superblock")
        try:
            superblock = Path(path).read_bytes()
        except FileNotFoundError:
            continue  # removed meanwhile, or not finished
        except OSError as error:
            raise RepositoryError(f"{path} cannot be read: {error.strerror}") from error
        if is_signed(superblock):
            reporter.warn(f"{path} is signed and is left as it is: make it again if its commit has new signatures")
            continue
        try:
            replaced = replace_detached(superblock, detached)
        except ValueError as error:
            raise RepositoryError(
                f"{path} is damaged: {error}",
                hint="make the static delta again with compose delta, or remove its directory",
            ) from error
        if replaced != superblock:
            refs.replace_file(repo.fd, os.path.relpath(path, repo.path), replaced, fsync=repo.config.fsync)
            changed += 1
    if changed and (repo.config.indexed_deltas or os.path.exists(os.path.join(repo.path, index_path(target)))):
        write_index(repo, target)
    return changed
