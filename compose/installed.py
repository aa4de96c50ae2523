"""The packages of a commit, as its own rpm database tells them."""

from __future__ import annotations

import os

from compose import fs
from compose.errors import AssembleError, PackageError, RepositoryError
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.rpm.database import DATABASE_PATH, InstalledPackage, read_packages

_NAME, _LOG = "rpmdb.sqlite", "rpmdb.sqlite-wal"
_PLACES = (DATABASE_PATH, "usr/lib/sysimage/rpm")
"""Where image-based systems have it, and where a root has it that was not made into one."""


def installed_packages(
    repo: Repo, commit: str, reporter: Reporter, *, workdir: str | None = None
) -> tuple[InstalledPackage, ...] | None:
    """Sorted by NEVRA; None when the commit has no database of the kind that rpm has had since 4.16.

    workdir: where the database may be for a moment, by default where temporary files are.
    Raises RepositoryError when it is damaged, StorageError.
    """
    with fs.temporary_directory("compose-rpmdb-", workdir) as directory:
        if not extract_database(repo, commit, directory):
            return None
        try:
            return read_packages(directory, reporter)
        except (AssembleError, PackageError) as error:
            raise RepositoryError(
                f"{repo.path}: the rpm database of {commit} cannot be read: {error.message}", details=error.details
            ) from error


def extract_database(repo: Repo, commit: str, directory: str) -> bool:
    """Write a commit's rpm database into a directory; False when it has none of the kind that rpm has had since 4.16.

    Raises RepositoryError when an object is damaged, StorageError.
    """
    for place in _PLACES:
        found = repo.read_directory(commit, place)
        data = repo.read_file_in(found, _NAME) if found is not None else None
        if found is None or data is None:
            continue
        # packages may be in its log alone
        for name, content in ((_NAME, data), (_LOG, repo.read_file_in(found, _LOG))):
            path = os.path.join(directory, name)
            if content:
                with fs.storage_errors(path), open(path, "wb") as file:
                    file.write(content)
        return True
    return False
