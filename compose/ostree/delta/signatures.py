"""Keep the signatures in static deltas up to date.

A superblock holds the detached metadata that its commit had when the delta was made, and clients verify the commit with that. A
signature made later must get into the superblocks too, or clients that require it refuse the update.
"""

from __future__ import annotations

import os

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.delta.index import delta_directories, read_superblock
from compose.ostree.delta.layout import replace_detached, signed_superblock
from compose.ostree.objects import MAX_METADATA_SIZE
from compose.ostree.repo import Repo


def outdated_superblocks(repo: Repo, target: str, reporter: Reporter) -> dict[str, bytes]:
    """What to replace superblocks with, by the name of the delta ("TO" or "FROM-TO" in hex): those of the deltas to a commit
    that have other detached metadata than it has now. write_summary() replaces them, since the summary has their digests.

    A delta that is signed itself, or whose superblock is too large for clients to fetch, is left out, with a warning. Raises
    RepositoryError if a superblock is damaged or cannot be read.
    """
    detached = repo.read_detached_bytes(target)
    found: dict[str, bytes] = {}
    for name, directory in delta_directories(repo.path):
        if name.rpartition("-")[2] != target:
            continue
        path = os.path.join(directory, "superblock")
        # one byte more than clients fetch
        superblock = read_superblock(directory, lambda file: file.read(MAX_METADATA_SIZE + 1))
        if superblock is None:
            continue
        if len(superblock) > MAX_METADATA_SIZE:
            reporter.warn(
                f"{path} is larger than what clients fetch and gets no new signatures; without --inline it is smaller"
            )
            continue
        try:
            inner = signed_superblock(superblock)
            replaced = replace_detached(superblock if inner is None else inner, detached)
        except ValueError as error:
            raise RepositoryError(
                f"{path} is damaged: {error}",
                hint="make the static delta again with compose delta, or remove its directory",
            ) from error
        if inner is not None and replaced != inner:
            reporter.warn(
                f"{path} is signed and is left as it is, without the new signatures of its commit: make it again"
            )
        elif inner is None and replaced != superblock:
            found[name] = replaced
    return found
