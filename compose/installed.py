"""The packages of a commit according to its rpm database."""

from __future__ import annotations

import os

from compose import fs
from compose.errors import AssembleError, PackageError, RepositoryError
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.rpm.database import DATABASE_PATH, InstalledPackage, read_packages
from compose.scratch import temporary_directory

_NAME, _LOG = "rpmdb.sqlite", "rpmdb.sqlite-wal"
_DIRECTORIES = (DATABASE_PATH, "usr/lib/sysimage/rpm")
"""In image-based systems, and in roots that were not made into one."""


def installed_packages(
    repo: Repo, commit: str, reporter: Reporter, *, workdir: str | None = None
) -> tuple[InstalledPackage, ...] | None:
    """Return a commit's packages, sorted by NEVRA; None if it has no SQLite database (rpm 4.16 and later).

    workdir: for a temporary copy of the database, by default as for temporary files.
    Raises RepositoryError if the database or an object is damaged, StorageError.
    """
    with temporary_directory("compose-rpmdb-", workdir) as directory:
        if not extract_database(repo, commit, directory):
            return None
        try:
            return read_packages(directory, reporter)
        except (AssembleError, PackageError) as error:
            raise RepositoryError(
                f"{repo.path}: the rpm database of {commit} cannot be read: {error.message}", details=error.details
            ) from error


def extract_root(repo: Repo, commit: str, root: str) -> str:
    """Write a commit's rpm database to its place below a new directory, where libdnf5 looks for it; returns that place.

    Raises as extract_database() does, and RepositoryError if there is none.
    """
    database = os.path.join(root, DATABASE_PATH)
    with fs.storage_errors(database):
        os.makedirs(database)
    if not extract_database(repo, commit, database):
        raise RepositoryError(
            f"{commit} has no rpm database in a supported format",
            hint="rpmdb.sqlite is supported, the default of rpm since 4.16",
        )
    return database


def extract_database(repo: Repo, commit: str, directory: str) -> bool:
    """Write a commit's rpm database into a directory; False if it has no SQLite database (rpm 4.16 and later).

    Raises RepositoryError if an object is damaged, StorageError.
    """
    for place in _DIRECTORIES:
        found = repo.read_directory(commit, place)
        data = repo.read_file_in(found, _NAME) if found is not None else None
        if found is None or data is None:
            continue
        # some packages may be only in the write-ahead log
        for name, content in ((_NAME, data), (_LOG, repo.read_file_in(found, _LOG))):
            path = os.path.join(directory, name)
            if content:
                with fs.storage_errors(path), open(path, "wb") as file:
                    file.write(content)
        return True
    return False
