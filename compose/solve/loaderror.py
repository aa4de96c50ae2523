"""A repository that could not be loaded: what librepo and libsolv said, as an error that says what to do."""

from __future__ import annotations

import os
import re
from typing import Any

from compose.errors import FetchError, StorageError
from compose.rpm.repofile import RepoSection, without_user

# What may have passed a second later: the server's own trouble, a name or connection that failed, a mirror in the
# middle of an update (librepo's wording; numbers are CURLcode).
_PASSING = re.compile(r"Status code: (?:408|429|5\d\d)|Curl error \((?:5|6|7|18|28|35|52|55|56|92)\)|checksum")
_DISK = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied|Input/output error|File too large"
)
_CORRUPT = re.compile(r"checksum doesn't match|Parsing unsuccessful|Failed to load \w+ for repo")
_OF_CACHE = re.compile(r"Failed to load \w+ cache for repo")
_NO_SPACE, _LITTLE_SPACE = 1 << 20, 512 << 20
SPACE_HINT = "free some space, or give another place with --cachedir"


def _free_bytes(place: str) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def plain(dnf: Any, error: Exception) -> str:
    """The whole chain of a nested libdnf5 exception on one line."""
    text = error.format(dnf.exception.FormatDetailLevel_Plain) if hasattr(error, "format") else str(error)
    return " ".join(text.split())


def raised(dnf: Any) -> tuple[type[Exception], ...]:
    """What libdnf5 raises: its own errors, and those of what it is made with, a full disk's of std::filesystem among them."""
    return dnf.exception.Error, dnf.exception.NonLibdnf5Exception, RuntimeError


def is_of_disk(text: str) -> bool:
    """Is what libdnf5 says of a disk that refuses?"""
    return _DISK.search(text) is not None


class LoadError(Exception):
    """A repository whose metadata did not come or is no metadata."""

    def __init__(self, section: RepoSection, url: str, cause: str, failures: tuple[str, ...]) -> None:
        super().__init__(cause)
        self.section = section
        self.url = without_user(url)
        self.cause = without_user(cause)
        self.failures = tuple(map(without_user, failures))

    @property
    def may_pass(self) -> bool:
        remote = not self.url.startswith("file:")
        return remote and any(_PASSING.search(text) for text in (self.cause, *self.failures))

    @property
    def of_cache(self) -> bool:
        """Is it only the parsed form of the metadata that is damaged?"""
        return _OF_CACHE.search(self.cause) is not None

    def told(self, place: str) -> FetchError | StorageError:
        """place: where the metadata goes to."""
        where = f"repository {self.section.id!r} ({self.section.place})"
        texts = tuple(dict.fromkeys((*self.failures, self.cause)))
        for text in texts:
            if is_of_disk(text):
                return StorageError(f"{where}: its metadata cannot be stored in {place}: {text}", hint=SPACE_HINT)
        # librepo does not look whether its writes succeed: a full disk shows as a wrong checksum
        if (free := _free_bytes(place)) < _NO_SPACE:
            return StorageError(f"{where}: its metadata cannot be stored: {place} is full", hint=SPACE_HINT)
        if free < _LITTLE_SPACE:
            texts = (*texts, f"{place} has only {free >> 20} MiB free")
        if any("GPG" in text for text in texts):
            fault, hint = "signature of the metadata cannot be checked, from", "check repo_gpgcheck= and gpgkey="
        elif any(text.startswith("Cache-only enabled but no cache") for text in texts):
            fault, hint = "metadata is not in the cache, that of", "compose once without --cache-only"
        elif any(_CORRUPT.search(text) for text in texts):
            fault, hint = "metadata is corrupted at", "have its repodata/ made again (createrepo_c), or try a mirror"
        else:
            fault, hint = "metadata cannot be loaded from", "check the URL and the network"
        return FetchError(
            f"{where}: {fault} {self.url}: {texts[0]}",
            hint=f"{hint}; every enabled repository must load: leave out of repos: what is not needed",
            details=texts[1:],
        )
