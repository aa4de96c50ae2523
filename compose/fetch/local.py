"""RPMs from outside the repositories: a file or a URL, with the digest that the treefile pins."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from compose import fs
from compose.errors import FetchError, TreefileError, TrustError
from compose.events import Reporter
from compose.fetch import urls
from compose.rpm import child
from compose.rpm.header import path_fault
from compose.rpm.repofile import without_user
from compose.rpm.repos import RepoAccess, RepoNetwork

_MAX_SIZE = 4 << 30
"""Bytes after which a download is aborted: its size is not known beforehand, and its digest only at the end."""
_HINT = "correct the URL under rpm-files, or download the file and give its path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Exactly one of path and url is set. sha256: of the file. place: its position in the treefile."""

    sha256: str
    place: str
    path: str | None = None
    url: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path or without_user(self.url or "")


def bring(sources: Sequence[Source], access: RepoAccess, network: RepoNetwork, reporter: Reporter) -> tuple[str, ...]:
    """Copy or download the RPMs into CACHEDIR/rpms, and return their paths there. Each has the pinned digest.

    Raises TrustError for another digest, TreefileError for a file that cannot be read, FetchError, StorageError.
    """
    paths = [_cached_path(source, network) for source in sources]
    fetched = []
    missing = []
    for source, path in zip(sources, paths, strict=True):
        with fs.storage_errors(network.rpms_dir):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if os.path.exists(path) and _digest(path) == source.sha256:
            continue
        fetched.append((source, path))
        if source.path is not None:
            _copy(source.path, path, source)
        else:
            missing.append((source, path))
    if missing and network.cache_only:
        raise FetchError(
            f"{missing[0][0].place}: {missing[0][0].name} is not in the cache",
            hint="compose once without --cache-only or --offline",
        )
    if missing:
        downloads = tuple(
            urls.Download(urls=(source.url or "",), path=path, name=source.name, limit=_MAX_SIZE)
            for source, path in missing
        )
        for _, path in missing:
            if os.path.exists(path):
                os.unlink(path)
        job = urls.Job(downloads=downloads, access=access, network=network, hint=_HINT)
        child.call(urls.download, job, reporter, crash=_crashed)
    for source, path in fetched:
        found = _digest(path)
        if found != source.sha256:
            shutil.rmtree(os.path.dirname(path), ignore_errors=True)
            raise TrustError(
                f"{source.place}: {source.name} has the sha256 {found}, the treefile says {source.sha256}",
                hint="if the new file is the intended one, put its digest into the treefile",
            )
    return tuple(paths)


def _cached_path(source: Source, network: RepoNetwork) -> str:
    try:
        name = os.path.basename(source.path if source.path is not None else unquote(urlsplit(source.url or "").path))
    except ValueError as error:
        raise TreefileError(f"{source.place}: rpm-files: {source.name} is not a valid URL: {error}") from error
    if not name.endswith(".rpm"):
        raise TreefileError(f"{source.place}: rpm-files: {source.name} does not end in .rpm")
    if fault := path_fault(name):
        raise TreefileError(f"{source.place}: rpm-files: {source.name}: {fault}")
    return os.path.join(network.rpms_dir, f"sha256-{source.sha256}", name)


def _copy(origin: str, path: str, source: Source) -> None:
    with fs.storage_errors(path):
        try:
            fs.copy_file(origin, path)
        except OSError as error:
            if error.errno in fs.DISK_ERRORS:
                raise
            raise TreefileError(f"{source.place}: rpm-files: cannot read {origin}: {error.strerror}") from error


def _digest(path: str) -> str:
    with fs.storage_errors(path), open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _crashed(cause: str, output: tuple[str, ...]) -> FetchError:
    return FetchError(f"the downloader (libdnf5) died: {cause}", hint="run it again", details=output)
