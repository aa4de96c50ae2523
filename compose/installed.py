"""The packages of a commit, as its own rpm database tells them."""

from __future__ import annotations

import os

from compose import fs
from compose.errors import AssembleError, PackageError, RepositoryError
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.rpm.database import DATABASE_PATH, InstalledPackage, read_packages

_NAME = "rpmdb.sqlite"


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
    data = repo.read_file(commit, f"{DATABASE_PATH}/{_NAME}")
    if data is None:
        return False
    path = os.path.join(directory, _NAME)
    with fs.storage_errors(path), open(path, "wb") as file:
        file.write(data)
    return True
