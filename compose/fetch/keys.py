"""The keys of a repository: exactly those that its gpgkey= names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from compose import fs
from compose.errors import FetchError, TrustError
from compose.events import Reporter
from compose.rpm.pgp import BadKey, PublicKey, parse_keys
from compose.rpm.repofile import local_path, without_user
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.resolution import RepoSnapshot

# the largest keyring of a distribution is some 100 KiB
_MAX_SIZE = 4 << 20
_BESIDE = "put the key file beside the .repo file and name it with a relative path"
_REMOTE = frozenset({"http", "https", "ftp"})


def download_keys(repos: Sequence[RepoSnapshot], access: RepoAccess, network: RepoNetwork, reporter: Reporter) -> None:
    """Bring the keys of repositories that are elsewhere, anew and all at once, to where read_key_file() finds them.

    Each comes with the settings of its repository's own section of access: certificates, proxy, and the user where the key is
    on a host of the repository. One that several repositories name comes once for each: what the one is content with, the other
    need not trust. Nothing is done for a compose that is to do with what is cached. Raises FetchError.
    """
    wanted = tuple(dict.fromkeys((repo.id, url) for repo in repos for url in repo.gpgkeys if _is_remote(url)))
    if network.cache_only or not wanted:
        return
    # most keys are files
    from compose.fetch import urls
    from compose.rpm import child

    places = {each: _kept(*each, network) for each in wanted}
    directory = os.path.join(network.metadata_dir, "keys")
    with fs.storage_errors(directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with fs.temporary_directory("new-", directory) as scratch:
            downloads = tuple(
                urls.Download(
                    urls=(url,),
                    path=os.path.join(scratch, os.path.basename(places[repo, url])),
                    name=f"gpgkey {without_user(url)} of repository {repo!r}",
                    repo=repo,
                    own_hosts_only=True,
                    limit=_MAX_SIZE,
                )
                for repo, url in wanted
            )
            job = urls.Job(downloads=downloads, access=access, network=network, what="keys", hint=_BESIDE)
            child.call(urls.download, job, reporter, crash=_crashed)
            for each in downloads:
                os.rename(each.path, places[each.repo, each.urls[0]])


def load_keys(repo: RepoSnapshot, access: RepoAccess, network: RepoNetwork) -> tuple[PublicKey, ...]:
    """The keys of a repository that has gpgcheck=1, those of elsewhere as download_keys() left them.

    Raises TrustError for no gpgkey=, a file that is missing or is no key; FetchError for one that was never downloaded.
    """
    if not repo.gpgkeys:
        raise TrustError(
            f"repository {repo.id!r} has gpgcheck=1 but no gpgkey=",
            hint="name its key file in gpgkey=, a path relative to the .repo file or a URL; this machine's keys are "
            "never used",
        )
    keys: dict[str, PublicKey] = {}
    for url in repo.gpgkeys:
        try:
            for key in parse_keys(read_key_file(url, repo, access, network)):
                keys.setdefault(key.fingerprint, key)
        except BadKey as error:
            raise TrustError(
                f"repository {repo.id!r}: gpgkey {without_user(url)} is not a key file: {error}"
            ) from error
    return tuple(keys.values())


def read_key_file(url: str, repo: RepoSnapshot, access: RepoAccess, network: RepoNetwork) -> bytes:
    """What a gpgkey= names. Raises as load_keys() does."""
    if _is_remote(url):
        try:
            with open(_kept(repo.id, url, network), "rb") as stream:
                return stream.read(_MAX_SIZE)
        except FileNotFoundError as error:
            raise FetchError(
                f"repository {repo.id!r}: gpgkey {without_user(url)} is not in the cache",
                hint="compose once without --cache-only",
            ) from error
    path = local_path(url)
    if path is None:
        raise TrustError(f"repository {repo.id!r}: gpgkey {without_user(url)} is neither a file nor an http(s) URL")
    places = [path] if access.root is None else [os.path.join(access.root, path.lstrip("/")), path]
    for place in places:
        try:
            with open(place, "rb") as stream:
                return stream.read(_MAX_SIZE)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TrustError(f"repository {repo.id!r}: gpgkey {place} cannot be read: {error.strerror}") from error
    raise TrustError(
        f"repository {repo.id!r}: gpgkey {path} does not exist",
        hint=_BESIDE,
        details=tuple(f"looked for {place}" for place in places),
    )


def _is_remote(url: str) -> bool:
    return url.partition(":")[0].lower() in _REMOTE


def _kept(repo: str, url: str, network: RepoNetwork) -> str:
    name = hashlib.sha256(f"{repo} {url}".encode()).hexdigest()
    return os.path.join(network.metadata_dir, "keys", f"{name}.asc")


def _crashed(how: str, output: tuple[str, ...]) -> FetchError:
    return FetchError(f"the downloader (libdnf5) died: {how}", hint=_BESIDE, details=output)
