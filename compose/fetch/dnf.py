"""Downloads of packages by libdnf5, which finds them in the metadata; runs in a child process (see fetcher.py)."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from compose import fs
from compose.errors import FetchError, StorageError
from compose.events import Reporter, Task
from compose.fetch.verify import File
from compose.rpm.repofile import without_user
from compose.rpm.repos import RepoAccess, RepoNetwork, add_repos, configure, enabled_repos
from compose.sizes import size

FINAL = re.compile(r"Status code: 4(?!08|29)\d\d|Curl error \((?:1|3|37)\)")
"""librepo's wording of failures that a retry does not cure: refused by the server (except 408 and 429), unknown
protocol, malformed URL, unreadable file (the numbers are of CURLcode)."""
TOO_LONG = "it is larger than the allowed"
NO_ROOM = "no space for"
MORE = 1 << 20
"""Bytes beyond the size of a package after which its download is aborted: an error page may have more than a small package."""
_DISK = re.compile(r"No space left on device|Read-only file system|Permission denied|Disk quota exceeded|error \(23\)")
# also of a download whose last bytes had no room
_MISMATCH = re.compile(r"checksum doesn't match")


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
    session = _Session(job, reporter)
    missing = {str(number): file for number, file in enumerate(job.files)}
    pause = job.network.pause
    with reporter.task(
        "Downloading packages", total=sum(file.package.download_size for file in job.files), unit="bytes"
    ) as task:
        for attempt in range(1, job.network.attempts + 1):
            failures = session.download(missing, task)
            missing = {key: missing[key] for key in failures}
            if not missing:
                return
            stop_for_disk(job.network.rpms_dir, failures)
            if attempt == job.network.attempts or all(FINAL.search(text) for text in failures.values()):
                break
            first = next(iter(failures))
            reporter.info(
                f"{len(missing)} downloads failed ({missing[first].package.nevra}: {failures[first]}); "
                f"trying again in {pause:g} s"
            )
            time.sleep(pause)
            pause *= 2
    raise _failed(missing, failures)


def check_room(place: str, needed: int) -> None:
    """Raise StorageError if downloads of so many bytes do not fit on a disk."""
    free = room(place)
    if free is not None and needed > free:
        raise StorageError(
            f"cannot store downloads in {place}: {size(needed)} are needed, {size(free)} are free", hint=fs.FREE_SPACE
        )


def room(place: str) -> int | None:
    """Return how many bytes can still be written to a directory; None if its filesystem does not say."""
    try:
        status = os.statvfs(place)
        return fs.free_bytes(status) if status.f_blocks else None
    except OSError:
        return None


def stop_for_disk(place: str, failures: dict[str, str]) -> None:
    """Raise StorageError if a download failed because the disk refused, which a retry does not cure."""
    for text in failures.values():
        if text.startswith(NO_ROOM):
            raise StorageError(f"cannot store downloads in {place}: {text}", hint=fs.FREE_SPACE)
        if _DISK.search(text) or (_MISMATCH.search(text) and fs.is_full(place)):
            # curl does not pass on the kernel's error
            hint = fs.FREE_SPACE if fs.is_full(place) else f"check whether a quota is used up; otherwise {fs.FAILING}"
            raise StorageError(f"cannot store downloads in {place}: {text}", hint=hint)


def remove_too_long(failures: dict[str, str]) -> None:
    """Remove files whose download was aborted because they were too long, which must not be resumed. failures: by path."""
    for path, text in failures.items():
        if text.startswith(TOO_LONG):
            fs.remove_tree(path)


def _failed(missing: dict[str, File], failures: dict[str, str]) -> FetchError:
    lines = [
        f"{file.package.nevra} of repository {file.package.repo!r}: {failures[key]}" for key, file in missing.items()
    ]
    return FetchError(
        f"cannot download {lines[0]}" if len(lines) == 1 else f"cannot download {len(lines)} packages",
        hint="run it again: what was downloaded is kept; a package gone from its repository needs fresh metadata",
        details=() if len(lines) == 1 else lines,
    )


class _Session:
    """A libdnf5 Base with the repositories' metadata loaded from the cache. Lives until the process ends."""

    def __init__(self, job: Job, reporter: Reporter) -> None:
        import libdnf5

        self._dnf = libdnf5
        self._done: Counter[str] = Counter()
        needed = {file.package.repo for file in job.files}
        sections = tuple(section for section in enabled_repos(job.access) if section.id in needed)
        self._base = libdnf5.base.Base()
        configure(self._base, job.access, job.network, os.path.join(job.network.metadata_dir, "empty-root"))
        config = self._base.get_config()
        # exactly the metadata that was solved with: a refresh could remove packages
        config.get_cacheonly_option().set("metadata")
        config.get_optional_metadata_types_option().set([])
        self._base.setup()
        add_repos(self._base, sections, Reporter())
        try:
            self._base.get_repo_sack().load_repos(libdnf5.repo.Repo.Type_AVAILABLE)
        except (libdnf5.exception.Error, RuntimeError) as error:
            raise FetchError(f"the metadata that was solved with is gone: {error}", hint="run it again") from error
        query = libdnf5.rpm.PackageQuery(self._base)
        query.filter_available()
        query.filter_name(sorted({file.package.nevra.name for file in job.files}))
        self._packages = {
            (package.get_repo_id(), package.get_location(), package.get_checksum().get_checksum()): package
            for package in query
        }

    def download(self, files: dict[str, File], task: Task) -> dict[str, str]:
        """Try every file once, and return the failures by key."""
        watch = self._watch(files, task)
        self._base.set_download_callbacks(self._dnf.repo.DownloadCallbacksUniquePtr(watch))
        downloader = self._dnf.repo.PackageDownloader(self._base)
        downloader.set_fail_fast(False)
        downloader.set_resume(True)
        # referenced here, for libdnf5 keeps only pointers
        self._held = (watch, downloader)
        for key, file in files.items():
            package = self._packages.get((file.package.repo, file.package.location, file.package.checksum[1]))
            if package is None:
                watch.failures[key] = "it is no longer in the repository's metadata"
                continue
            watch.order.append(key)
            downloader.add(package, os.path.dirname(file.path))
        try:
            downloader.download()
        except (self._dnf.exception.Error, RuntimeError) as error:
            # the callbacks report each file's failure; this is for files that they did not report
            for key, file in files.items():
                if not os.path.exists(file.path):
                    watch.failures.setdefault(key, str(error))
        remove_too_long({files[key].path: text for key, text in watch.failures.items()})
        return {key: without_user(text) for key, text in watch.failures.items()}

    def _watch(self, files: dict[str, File], task: Task) -> Any:
        done = self._done
        error_status = self._dnf.repo.DownloadCallbacks.TransferStatus_ERROR
        give_up = self._dnf.repo.DownloadCallbacks.ERROR

        class Watch(self._dnf.repo.DownloadCallbacks):  # type: ignore[name-defined,misc]
            """Numbers of downloads are in the order they were added. No method may raise: that aborts the process."""

            def __init__(self) -> None:
                super().__init__()
                self.order: list[str] = []
                self.failures: dict[str, str] = {}
                self.causes: dict[str, str] = {}
                self.begun = 0

            def add_new_download(self, user_data: Any, description: str, total: float) -> int:
                self.begun += 1
                return self.begun - 1

            def progress(self, number: int, total: float, downloaded: float) -> int:
                # error pages count as downloaded too, and the count restarts with the next mirror
                key = self.order[number]
                self._reached(key, int(downloaded))
                size = files[key].package.download_size
                if size and size + MORE < downloaded:
                    self.failures[key] = f"{TOO_LONG} {size} bytes"
                    return int(give_up)
                return 0

            def mirror_failure(self, number: int, message: str, url: str, metadata: str) -> int:
                self.causes[self.order[number]] = str(message)
                return 0

            def end(self, number: int, status: int, message: str) -> int:
                key = self.order[number]
                if status == error_status:
                    self.failures.setdefault(key, self.causes.get(key) or str(message))
                else:
                    self._reached(key, files[key].package.download_size)
                return 0

            def _reached(self, key: str, size: int) -> None:
                file = files[key]
                size = min(size, file.package.download_size)
                if size > done[key]:
                    task.advance(size - done[key], detail=str(file.package.nevra))
                    done[key] = size

        return Watch()
