"""The keys of a repository: exactly those that its gpgkey= names."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from compose import fs
from compose.errors import FetchError, TrustError
from compose.events import Reporter
from compose.rpm.pgp import BadKey, PublicKey, parse_keys
from compose.rpm.repofile import without_user
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.resolution import RepoSnapshot

# the largest keyring of a distribution is some 100 KiB
_MAX_SIZE = 4 << 20
_BESIDE = "put the key file beside the .repo file and name it with a relative path"
_REMOTE = frozenset({"http", "https", "ftp"})


def load_keys(
    repo: RepoSnapshot, access: RepoAccess, network: RepoNetwork, reporter: Reporter
) -> tuple[PublicKey, ...]:
    """The keys of a repository that has gpgcheck=1.

    What is elsewhere is downloaded with the settings of the repository's own section of access: user, certificates, proxy.
    Raises TrustError for no gpgkey=, a file that is missing or is no key; FetchError for one that cannot be downloaded.
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
            for key in parse_keys(read_key_file(url, repo, access, network, reporter)):
                keys.setdefault(key.fingerprint, key)
        except BadKey as error:
            raise TrustError(
                f"repository {repo.id!r}: gpgkey {without_user(url)} is not a key file: {error}"
            ) from error
    return tuple(keys.values())


def read_key_file(url: str, repo: RepoSnapshot, access: RepoAccess, network: RepoNetwork, reporter: Reporter) -> bytes:
    """What a gpgkey= names. Raises as load_keys() does."""
    scheme = url.partition(":")[0].lower()
    if scheme in _REMOTE:
        return _download(url, repo, access, network, reporter)
    if scheme != "file":
        raise TrustError(f"repository {repo.id!r}: gpgkey {without_user(url)} is neither a file nor an http(s) URL")
    path = unquote(urlsplit(url).path)
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


def _download(url: str, repo: RepoSnapshot, access: RepoAccess, network: RepoNetwork, reporter: Reporter) -> bytes:
    kept = os.path.join(network.metadata_dir, "keys", hashlib.sha256(url.encode()).hexdigest() + ".asc")
    if network.cache_only:
        try:
            with open(kept, "rb") as stream:
                return stream.read(_MAX_SIZE)
        except FileNotFoundError as error:
            raise FetchError(
                f"repository {repo.id!r}: gpgkey {without_user(url)} is not in the cache",
                hint="compose once without --cache-only",
            ) from error
    # most keys are files
    from compose.fetch import urls
    from compose.rpm import child

    temporary = f"{kept}.{os.getpid()}"
    with fs.storage_errors(kept):
        os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
        try:
            wanted = urls.Download(
                urls=(url,),
                path=temporary,
                name=f"gpgkey {without_user(url)} of repository {repo.id!r}",
                repo=repo.id,
                limit=_MAX_SIZE,
            )
            job = urls.Job(downloads=(wanted,), access=access, network=network, what="keys", hint=_BESIDE)
            child.call(urls.download, job, reporter, crash=_crashed)
            with open(temporary, "rb") as stream:
                data = stream.read(_MAX_SIZE)
            os.rename(temporary, kept)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    return data


def _crashed(how: str, output: tuple[str, ...]) -> FetchError:
    return FetchError(f"the downloader (libdnf5) died: {how}", hint=_BESIDE, details=output)
