"""The keys of a repository: exactly those that its gpgkey= names."""

from __future__ import annotations

import hashlib
import os
import time
from urllib.parse import unquote, urlsplit

from compose.errors import FetchError, StorageError, TrustError
from compose.events import Reporter
from compose.rpm.pgp import BadKey, PublicKey, parse_keys
from compose.rpm.repos import RepoNetwork
from compose.solve.resolution import RepoSnapshot

_TIMEOUT = 30.0
# the largest keyring of a distribution is some 100 KiB
_MAX_SIZE = 4 << 20
_REMOTE = frozenset({"http", "https", "ftp"})


def load_keys(
    repo: RepoSnapshot, network: RepoNetwork, reporter: Reporter, *, root: str | None
) -> tuple[PublicKey, ...]:
    """The keys of a repository that has gpgcheck=1.

    root: where paths of file:// URLs are looked up first (--source-root). Raises TrustError for no gpgkey=, a file that
    is missing or is no key; FetchError for one that cannot be downloaded.
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
            for key in parse_keys(read_key_file(url, repo, network, reporter, root=root)):
                keys.setdefault(key.fingerprint, key)
        except BadKey as error:
            raise TrustError(f"repository {repo.id!r}: gpgkey {url} is not a key file: {error}") from error
    return tuple(keys.values())


def read_key_file(url: str, repo: RepoSnapshot, network: RepoNetwork, reporter: Reporter, *, root: str | None) -> bytes:
    """What a gpgkey= names. Raises as load_keys() does."""
    parts = urlsplit(url)
    if parts.scheme in _REMOTE:
        return _download(url, repo, network, reporter)
    if parts.scheme != "file":
        raise TrustError(f"repository {repo.id!r}: gpgkey {url} is neither a file nor an http(s) URL")
    path = unquote(parts.path)
    places = [path] if root is None else [os.path.join(root, path.lstrip("/")), path]
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
        hint="put the key file beside the .repo file and name it with a relative path",
        details=tuple(f"looked for {place}" for place in places),
    )


def _download(url: str, repo: RepoSnapshot, network: RepoNetwork, reporter: Reporter) -> bytes:
    kept = os.path.join(network.metadata_dir, "keys", hashlib.sha256(url.encode()).hexdigest() + ".asc")
    if network.cache_only:
        try:
            with open(kept, "rb") as stream:
                return stream.read(_MAX_SIZE)
        except FileNotFoundError as error:
            raise FetchError(
                f"repository {repo.id!r}: gpgkey {url} is not in the cache",
                hint="compose once without --cache-only",
            ) from error
    # brings ssl and http along, and most keys are files
    import http.client
    import urllib.error
    import urllib.request

    handlers = [] if network.proxy is None else [urllib.request.ProxyHandler(dict.fromkeys(_REMOTE, network.proxy))]
    opener = urllib.request.build_opener(*handlers)
    pause = network.pause
    for attempt in range(1, network.attempts + 1):
        try:
            with opener.open(url, timeout=_TIMEOUT) as response:
                data: bytes = response.read(_MAX_SIZE)
            break
        except (OSError, http.client.HTTPException) as error:  # URLError, HTTPError and timeouts are of the first
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            permanent = isinstance(error, http.client.InvalidURL) or (
                isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429)
            )
            if permanent or attempt == network.attempts:
                cause = getattr(error, "reason", None) or error
                raise FetchError(
                    f"repository {repo.id!r}: gpgkey {url} cannot be downloaded: {cause}",
                    hint="put the key file beside the .repo file and name it with a relative path",
                ) from error
            reporter.info(f"Key {url}: {error}; trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2
    _keep(kept, data)
    return data


def _keep(path: str, data: bytes) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "wb") as stream:
            stream.write(data)
        os.rename(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", hint="free some space") from error
