"""RPMs from outside the repositories: a file or a URL, with the digest that the treefile pins."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from compose import fs
from compose.errors import FetchError, TreefileError, TrustError
from compose.events import Reporter
from compose.fetch import urls
from compose.fetch.fetcher import downloads_locked
from compose.rpm import child
from compose.rpm.header import path_fault
from compose.rpm.repofile import without_user
from compose.rpm.repos import RepoAccess, RepoNetwork

_MAX_SIZE = 4 << 30
"""Bytes after which a download is aborted: its size is not known beforehand, and its digest only at the end."""
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL})
"""Of fs.open_regular(), if there is no regular file."""
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
    # by path, for an RPM may be listed twice
    wanted = dict(zip(paths, sources, strict=True))
    if _missing(wanted):
        with downloads_locked(network.rpms_dir, reporter):
            # without what another compose has brought while this one waited
            _bring(_missing(wanted), access, network, reporter)
    return tuple(paths)


def _missing(wanted: Mapping[str, Source]) -> dict[str, Source]:
    return {path: source for path, source in wanted.items() if _digest(path) != source.sha256}


def _bring(missing: Mapping[str, Source], access: RepoAccess, network: RepoNetwork, reporter: Reporter) -> None:
    remote = {path: source for path, source in missing.items() if source.url is not None}
    if remote and network.cache_only:
        source = next(iter(remote.values()))
        raise FetchError(
            f"{source.place}: {source.name} is not in the cache",
            hint="compose once without --cache-only or --offline",
        )
    for path, source in missing.items():
        directory = os.path.dirname(path)
        with fs.storage_errors(directory):
            if not os.path.isdir(directory):
                fs.remove_tree(directory)
            os.makedirs(directory, mode=0o700, exist_ok=True)
            fs.remove_tree(path)
        if source.path is not None:
            _copy(source.path, path, source)
    if remote:
        downloads = tuple(
            urls.Download(urls=(source.url or "",), path=path, name=source.name, limit=_MAX_SIZE)
            for path, source in remote.items()
        )
        job = urls.Job(downloads=downloads, access=access, network=network, hint=_HINT)
        child.call(urls.download, job, reporter, crash=_crashed)
    for path, source in missing.items():
        found = _digest(path)
        if found != source.sha256:
            fs.remove_tree(path)
            raise TrustError(
                f"{source.place}: {source.name} has the sha256 {found}, the treefile says {source.sha256}",
                hint="if the new file is the intended one, put its digest into the treefile",
            )


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


def _digest(path: str) -> str | None:
    """sha256 of a file, None if there is no regular file."""
    with fs.storage_errors(path):
        try:
            with fs.open_regular(path, follow_symlinks=False) as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            if error.errno in _NO_FILE:
                return None
            raise


def _crashed(cause: str, output: tuple[str, ...]) -> FetchError:
    return FetchError(f"the downloader (libdnf5) died: {cause}", hint="run it again", details=output)
