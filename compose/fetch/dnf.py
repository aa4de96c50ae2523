"""Downloads of packages by libdnf5, which finds them in the metadata; runs in a child process (see fetcher.py)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compose.errors import FetchError
from compose.events import Reporter
from compose.fetch.transfers import MORE, Transfer, Transfers
from compose.fetch.verify import File
from compose.rpm.repos import RepoAccess, RepoNetwork, add_repos, configure, enabled_repos, raised


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """files: what to download, each to its path, whose directory must exist."""

    files: tuple[File, ...]
    access: RepoAccess
    network: RepoNetwork


def download(job: Job, reporter: Reporter) -> None:
    """Download the files with the help of the repositories' cached metadata. For child processes only.

    Resumes partial files. Raises FetchError naming every package that failed, StorageError if the disk is full.
    """
    import libdnf5

    base = _loaded_base(libdnf5, job)
    packages = _packages(libdnf5, base, job.files)

    def start(missing: Sequence[Transfer], attempt: int) -> Any:
        # libdnf5 itself tries one mirror after the other
        downloader = libdnf5.repo.PackageDownloader(base)
        for transfer in missing:
            downloader.add(packages[transfer.path], os.path.dirname(transfer.path))
        return downloader

    transfers = tuple(
        Transfer(
            path=file.path,
            name=str(file.package.nevra),
            origin=f" of repository {file.package.repo!r}",
            size=file.package.download_size,
            limit=file.package.download_size and file.package.download_size + MORE,
        )
        for file in job.files
    )
    hint = "run it again: what was downloaded is kept; a package gone from its repository needs fresh metadata"
    Transfers(libdnf5, base, job.network).run(transfers, start, reporter, hint=hint)


def _loaded_base(dnf: Any, job: Job) -> Any:
    """A libdnf5 Base with the repositories' metadata loaded from the cache."""
    needed = {file.package.repo for file in job.files}
    sections = tuple(section for section in enabled_repos(job.access) if section.id in needed)
    base = dnf.base.Base()
    configure(base, job.access, job.network, os.path.join(job.network.metadata_dir, "empty-root"))
    config = base.get_config()
    # exactly the metadata that was solved with: a refresh could remove packages
    config.get_cacheonly_option().set("metadata")
    config.get_optional_metadata_types_option().set([])
    base.setup()
    add_repos(base, sections, Reporter())
    try:
        base.get_repo_sack().load_repos(dnf.repo.Repo.Type_AVAILABLE)
    except raised(dnf) as error:
        raise FetchError(f"the metadata that was solved with is gone: {error}", hint="run it again") from error
    return base


def _packages(dnf: Any, base: Any, files: Sequence[File]) -> dict[str, Any]:
    """libdnf5's packages by the path of their files. Raises FetchError."""
    query = dnf.rpm.PackageQuery(base)
    query.filter_available()
    query.filter_name(sorted({file.package.nevra.name for file in files}))
    known = {
        (package.get_repo_id(), package.get_location(), package.get_checksum().get_checksum()): package
        for package in query
    }
    found = {
        file.path: known.get((file.package.repo, file.package.location, file.package.checksum[1])) for file in files
    }
    gone = [f"{file.package.nevra} is no longer in the repository's metadata" for file in files if not found[file.path]]
    if gone:
        raise FetchError.of(gone, f"{len(gone)} packages are no longer in the metadata", hint="run it again")
    return found
