"""Repositories that no client reads, for commits on their way into an image or to be compared."""

from __future__ import annotations

import contextlib
import os

from compose import fs
from compose.ostree.config import Mode
from compose.ostree.repo import Repo

_PROBE_XATTR = "user.compose"


def open_private(path: str, *, composefs: bool = False, collection_id: str | None = None) -> Repo:
    """Open or create a repository: bare-user, whose files need not be compressed, or archive where the filesystem has no user
    xattrs. composefs: commits in a new repository get the composefs digest. collection_id: of a new repository.

    Raises StorageError, RepositoryError.
    """
    mode = Mode.BARE_USER
    with fs.storage_errors(path):
        os.makedirs(path, mode=0o700, exist_ok=True)
        try:
            os.setxattr(path, _PROBE_XATTR, b"")
        except OSError:
            # the filesystem has no user xattrs
            mode = Mode.ARCHIVE
        else:
            # another compose may be probing too
            with contextlib.suppress(OSError):
                os.removexattr(path, _PROBE_XATTR)
    return Repo.create(path, mode, composefs=composefs, collection_id=collection_id)
