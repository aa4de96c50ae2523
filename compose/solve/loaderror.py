"""Turns what librepo and libsolv say about a repository that could not be loaded into an error that says what to do."""

from __future__ import annotations

import os
import re
from typing import Any

from compose.errors import FetchError, StorageError
from compose.rpm.repofile import RepoSection, without_user
from compose.rpm.repos import UNSET_RELEASEVER

# Errors that may be transient: a server error, a failed lookup or connection, a mirror in the middle of an update (in librepo's
# words; the numbers are CURLcodes).
_TRANSIENT = re.compile(r"Status code: (?:408|429|5\d\d)|Curl error \((?:5|6|7|18|28|35|52|55|56|92)\)|checksum")
_DISK = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied|Input/output error|File too large"
)
_CORRUPT = re.compile(r"checksum doesn't match|Parsing unsuccessful|Failed to load \w+ for repo")
_OF_CACHE = re.compile(r"Failed to load \w+ cache for repo")
_UNKNOWN_AUTHORITY = re.compile(r"Curl error \((?:60|77)\)")
_VARIABLE = re.compile(r"\$\{?(\w+)", re.ASCII)
_NO_SPACE, _LITTLE_SPACE = 1 << 20, 512 << 20
SPACE_HINT = "free some space, or choose another directory with --cachedir"


def _free_bytes(directory: str) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def plain(dnf: Any, error: Exception) -> str:
    """A libdnf5 exception and all its nested causes, on one line."""
    text = error.format(dnf.exception.FormatDetailLevel_Plain) if hasattr(error, "format") else str(error)
    return " ".join(text.split())


def is_of_disk(text: str) -> bool:
    """Whether a libdnf5 message is about a failed write or read on the local disk."""
    return _DISK.search(text) is not None


class LoadError(Exception):
    """A repository whose metadata could not be loaded. url: where it comes from. cause: libdnf5's error. failures: librepo's
    errors, one per mirror."""

    def __init__(self, section: RepoSection, url: str, cause: str, failures: tuple[str, ...]) -> None:
        super().__init__(cause)
        self.section = section
        self.url = without_user(url)
        self.cause = without_user(cause)
        self.failures = tuple(map(without_user, failures))

    @property
    def is_transient(self) -> bool:
        """Whether another attempt may succeed."""
        remote = not self.url.startswith("file:")
        return remote and any(_TRANSIENT.search(text) for text in (self.cause, *self.failures))

    @property
    def of_cache(self) -> bool:
        """Whether only libsolv's cache of the parsed metadata is damaged."""
        return _OF_CACHE.search(self.cause) is not None

    def as_error(self, directory: str) -> FetchError | StorageError:
        """The error to report. directory: where the metadata is cached."""
        repository = f"repository {self.section.id!r} ({self.section.place})"
        texts = tuple(dict.fromkeys((*self.failures, self.cause)))
        for text in texts:
            if is_of_disk(text):
                return StorageError(f"{repository}: cannot store metadata in {directory}: {text}", hint=SPACE_HINT)
        # librepo does not check whether its writes succeed: a full disk shows up as a wrong checksum
        if (free := _free_bytes(directory)) < _NO_SPACE:
            return StorageError(f"{repository}: cannot store metadata: {directory} is full", hint=SPACE_HINT)
        if free < _LITTLE_SPACE:
            texts = (*texts, f"{directory} has only {free >> 20} MiB free")
        if any("GPG" in text for text in texts):
            fault, hint = "cannot verify the signature of the metadata from", "check repo_gpgcheck= and gpgkey="
        elif any(text.startswith("Cache-only enabled but no cache") for text in texts):
            fault, hint = "the cache has no metadata from", "compose once without --cache-only or --offline"
        elif any(_CORRUPT.search(text) for text in texts):
            fault, hint = "corrupted metadata at", "regenerate its repodata/ (createrepo_c), or try a mirror"
        elif any(_UNKNOWN_AUTHORITY.search(text) for text in texts):
            hint = "name the file of its certificate authority in sslcacert= or SSL_CERT_FILE"
            fault = "cannot load metadata from"
        else:
            fault, hint = "cannot load metadata from", self._unset() or "check the URL and the network"
        return FetchError(
            f"{repository}: {fault} {self.url}: {texts[0]}",
            hint=f"{hint}; all enabled repositories must load: remove those that are not needed from repos:",
            details=texts[1:],
        )

    def _unset(self) -> str | None:
        """What to do about variables in the URL that nothing sets, None if there are none."""
        if UNSET_RELEASEVER in self.url:
            return "its URL has $releasever: set releasever in the treefile"
        names = ", ".join(f"${name}" for name in dict.fromkeys(_VARIABLE.findall(self.url)))
        return f"nothing sets {names} of its URL: set them under repovars in the treefile" if names else None
