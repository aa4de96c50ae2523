"""The keys of a repository: exactly those named by its gpgkey=."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import suppress

from compose import fs
from compose.errors import FetchError, TrustError
from compose.events import Reporter
from compose.rpm.pgp import BadKey, PublicKey, parse_keys
from compose.rpm.repofile import local_path, without_user
from compose.rpm.repos import KEY_DIRS, RepoAccess, RepoNetwork, key_paths
from compose.scratch import temporary_directory
from compose.solve.resolution import RepoSnapshot

# the largest keyring of a distribution is some 100 KiB
_MAX_SIZE = 4 << 20
_BESIDE = "put the key file beside the .repo file and name it with a relative path"
_SHOWN = 10
_REMOTE = frozenset({"http", "https", "ftp"})


def download_keys(repos: Sequence[RepoSnapshot], access: RepoAccess, network: RepoNetwork, reporter: Reporter) -> None:
    """Download the repositories' remote keys, afresh and all at once, to where read_key_file() finds them.

    Each is downloaded with the settings of its repository's section: certificates, proxy, and the user if the key is on
    a host of the repository. A key that several repositories name is downloaded for each, since one may accept
    connections that another does not trust. Does nothing if the compose uses only what is cached. Raises FetchError.
    """
    wanted = tuple(dict.fromkeys((repo.id, url) for repo in repos for url in repo.gpgkeys if _is_remote(url)))
    if network.cache_only or not wanted:
        return
    # imported here: most keys are local files
    from compose.fetch import urls
    from compose.rpm import child

    paths = {(repo, url): _cached_path(repo, url, network) for repo, url in wanted}
    directory = os.path.join(network.metadata_dir, "keys")
    with fs.storage_errors(directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with temporary_directory("new-", directory) as scratch:
            downloads = tuple(
                urls.Download(
                    urls=(url,),
                    path=os.path.join(scratch, os.path.basename(paths[repo, url])),
                    name=f"gpgkey {without_user(url)} of repository {repo!r}",
                    repo=repo,
                    own_hosts_only=True,
                    limit=_MAX_SIZE,
                )
                for repo, url in wanted
            )
            job = urls.Job(downloads=downloads, access=access, network=network, what="keys", hint=_BESIDE)
            child.call(urls.download, job, reporter, crash=_crashed)
            for download in downloads:
                os.rename(download.path, paths[download.repo, download.urls[0]])


def load_keys(
    repo: RepoSnapshot, access: RepoAccess, network: RepoNetwork, reporter: Reporter
) -> tuple[PublicKey, ...]:
    """Return the keys of a repository that has gpgcheck=1, remote ones as downloaded by download_keys().

    Keys of an unsupported version are skipped with a warning. Raises TrustError if there is no gpgkey=, or a file is missing
    or not a key file; FetchError if a remote one was never downloaded.
    """
    if not repo.gpgkeys:
        raise TrustError(
            f"repository {repo.id!r} has gpgcheck=1 but no gpgkey=",
            hint="set gpgkey= to its key file, a path relative to the .repo file or a URL; the host's keys are never "
            "used unless it names them",
            details=tuple(f"there is file://{path}" for path in _key_files(access)),
        )
    keys: dict[str, PublicKey] = {}
    for url in repo.gpgkeys:
        try:
            found = parse_keys(read_key_file(url, repo, access, network))
        except BadKey as error:
            raise TrustError(
                f"repository {repo.id!r}: gpgkey {without_user(url)} is not a key file: {error}"
            ) from error
        for reason in found.skipped:
            reporter.warn(f"repository {repo.id!r}: a key of gpgkey {without_user(url)} is skipped: {reason}")
        for key in found.keys:
            keys.setdefault(key.fingerprint, key)
    return tuple(keys.values())


def read_key_file(url: str, repo: RepoSnapshot, access: RepoAccess, network: RepoNetwork) -> bytes:
    """Return the content of the file that an entry of gpgkey= names. Raises as load_keys() does."""
    if _is_remote(url):
        try:
            with open(_cached_path(repo.id, url, network), "rb") as stream:
                return stream.read(_MAX_SIZE)
        except FileNotFoundError as error:
            raise FetchError(
                f"repository {repo.id!r}: gpgkey {without_user(url)} is not in the cache",
                hint="compose once without --cache-only or --offline",
            ) from error
    path = local_path(url)
    if path is None:
        raise TrustError(f"repository {repo.id!r}: gpgkey {without_user(url)} is neither a file nor an http(s) URL")
    candidates = key_paths(path, access)
    for candidate in candidates:
        try:
            with fs.open_regular(candidate) as stream:
                return stream.read(_MAX_SIZE)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TrustError(f"repository {repo.id!r}: gpgkey {candidate} cannot be read: {error.strerror}") from error
    raise TrustError(
        f"repository {repo.id!r}: gpgkey {path} does not exist",
        hint=_BESIDE,
        details=tuple(f"looked for {candidate}" for candidate in candidates),
    )


def _key_files(access: RepoAccess) -> tuple[str, ...]:
    """Paths of key files, below the source root or on this machine, one of which the .repo file may have been written for:
    those of the release if there are any."""
    found: dict[str, None] = {}
    for root in dict.fromkeys((access.root or "/", "/")):
        for directory in KEY_DIRS:
            with suppress(OSError):
                found |= dict.fromkeys(directory + name for name in sorted(os.listdir(root + directory)))
    release = rf"\b{re.escape(access.releasever or '')}\b"
    return tuple([path for path in found if access.releasever and re.search(release, path)] or found)[:_SHOWN]


def _is_remote(url: str) -> bool:
    return url.partition(":")[0].lower() in _REMOTE


def _cached_path(repo: str, url: str, network: RepoNetwork) -> str:
    name = hashlib.sha256(f"{repo} {url}".encode()).hexdigest()
    return os.path.join(network.metadata_dir, "keys", f"{name}.asc")


def _crashed(cause: str, output: tuple[str, ...]) -> FetchError:
    return FetchError(f"the downloader (libdnf5) died: {cause}", hint=_BESIDE, details=output)
