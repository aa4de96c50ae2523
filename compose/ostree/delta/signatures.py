"""Keep the signatures in static deltas up to date.

A superblock holds the detached metadata that its commit had when the delta was made, and clients verify the commit with that. A
signature made later must get into the superblocks too, or clients that require it refuse the update.
"""

from __future__ import annotations

import os
from pathlib import Path

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.delta.index import delta_directories
from compose.ostree.delta.layout import is_signed, replace_detached
from compose.ostree.repo import Repo


def outdated_superblocks(repo: Repo, target: str, reporter: Reporter) -> dict[str, bytes]:
    """What to replace superblocks with, by the name of the delta ("TO" or "FROM-TO" in hex): those of the deltas to a commit
    that have other detached metadata than it has now. write_summary() replaces them, since the summary has their digests.

    A delta that is signed itself is left out, with a warning. Raises RepositoryError if a superblock is damaged.
    """
    detached = repo.read_detached_bytes(target)
    found: dict[str, bytes] = {}
    for name, directory in delta_directories(repo.path):
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
            found[name] = replaced
    return found
