"""The repositories of a request, in libdnf5: their metadata fetched, read, and told of."""

from __future__ import annotations

import difflib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from compose.errors import StorageError, UsageError
from compose.events import Reporter, Task
from compose.rpm.database import DATABASE_PATH, look_in
from compose.rpm.repofile import RepoSection, absolute, local_path, split_list
from compose.rpm.repos import RepoNetwork, add_repos, configure, enabled_repos, substitute
from compose.solve import groups
from compose.solve.loaderror import SPACE_HINT, LoadError, plain, raised
from compose.solve.memo import LOADING, REPOMD, Metadata, digest_of, sizes
from compose.solve.request import SolveRequest
from compose.solve.resolution import RepoSnapshot

_ELSEWHERE = {"amd64": "x86_64", "arm64": "aarch64", "ppc64el": "ppc64le", "386": "i386", "x86": "i386"}
"""What Debian and containers call the architectures that RPM calls otherwise."""
_REPO_ID = re.compile(r'(?:repository|repo) "(?P<id>[^"]+)"')


def load_repositories(
    request: SolveRequest, network: RepoNetwork, reporter: Reporter, *, installed: str | None = None
) -> Repositories:
    """All that are enabled, brought up to date and loaded. installed: a private directory with nothing but an rpm database at
    DATABASE_PATH, whose packages are there already; None for none.

    Raises FetchError for one that cannot be loaded, StorageError when the cache is refused, TreefileError for faults in .repo
    files.
    """
    try:
        with _metadata_lock(network, reporter):
            return _loaded(request, network, reporter, installed)
    except OSError as error:
        raise StorageError(
            f"cannot write to {error.filename or network.metadata_dir}: {error.strerror}",
            hint=SPACE_HINT,
        ) from error


def _check_architecture(dnf: Any, basearch: str) -> None:
    known = {dnf.rpm.get_base_arch(each) for each in dnf.rpm.get_supported_arches()} - {"noarch"}
    if basearch not in known:
        near = _ELSEWHERE.get(basearch) or next(iter(difflib.get_close_matches(basearch, sorted(known), n=1)), "")
        raise UsageError(
            f"{basearch}: is no architecture that RPM repositories have",
            hint=f"did you mean {near}?" if near else f"they have {', '.join(sorted(known))}",
        )


@contextmanager
def _metadata_lock(network: RepoNetwork, reporter: Reporter) -> Iterator[None]:
    """Held while metadata is brought up to date: two composes may share a cachedir."""
    os.makedirs(network.metadata_dir, mode=0o700, exist_ok=True)
    descriptor = os.open(os.path.join(network.metadata_dir, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.info(f"Waiting for another compose that refreshes {network.metadata_dir}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _loaded(request: SolveRequest, network: RepoNetwork, reporter: Reporter, installed: str | None) -> Repositories:
    """In as many attempts as may help."""
    pause = network.pause
    for attempt in range(1, network.attempts + 1):
        repositories = Repositories(request, network, reporter, installed)
        try:
            repositories.load()
        except LoadError as error:
            last = attempt == network.attempts
            if error.of_cache and not last:
                reporter.info(f"Repository {error.section.id!r}: {error.cause}; reading its metadata anew")
                repositories.forget_parsed()
                continue
            if last or not error.may_pass:
                raise error.told(network.metadata_dir) from error
            reporter.info(f"Repository {error.section.id!r}: {error.cause}; trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2
        else:
            return repositories
    raise AssertionError("attempts is at least 1")


class Repositories:
    """A libdnf5 Base with the repositories of a request. It lives until the process ends: whatever libdnf5 handed out is
    invalid, and crashes, once the Base is gone.

    dnf: libdnf5. base: the Base. sections: the repositories as their files say. metadata: what was loaded of each, in the same
    order. Raises TreefileError for faults in .repo files, UsageError for an architecture that is none.
    """

    def __init__(
        self, request: SolveRequest, network: RepoNetwork, reporter: Reporter, installed: str | None = None
    ) -> None:
        import libdnf5

        self.dnf = libdnf5
        _check_architecture(libdnf5, request.access.basearch)
        self.sections = enabled_repos(request.access)
        self.metadata: tuple[Metadata, ...] = ()
        self._network = network
        self._reporter = reporter
        self._installed = installed
        root = installed or os.path.join(network.metadata_dir, "empty-root")
        os.makedirs(root, mode=0o700, exist_ok=True)
        self.base = libdnf5.base.Base()
        configure(self.base, request.access, network, root)
        config = self.base.get_config()
        config.get_install_weak_deps_option().set(request.recommends)
        types = ["filelists"]
        if any(groups.is_group(spec.text) for spec in request.packages):
            types.append("comps")
        if request.advisories:
            types.append("updateinfo")
        config.get_optional_metadata_types_option().set(types)
        self.base.setup()
        self._repos = add_repos(self.base, self.sections, network, reporter)
        self._failures: list[tuple[str, str]] = []

    def load(self) -> None:
        """Fetch and read the metadata of all. Raises LoadError for the first that fails."""
        with self._reporter.task(LOADING, unit="bytes") as task:
            callbacks = self._watch(task)
            self.base.set_download_callbacks(self.dnf.repo.DownloadCallbacksUniquePtr(callbacks))
            # held: a callback object that is collected aborts the process
            self._callbacks = callbacks
            for repo in self._repos:
                _fresh_keyring(repo)
            try:
                if self._installed is None:
                    # only the available ones: loading the system's makes an rpmdb in the root
                    self.base.get_repo_sack().load_repos(self.dnf.repo.Repo.Type_AVAILABLE)
                else:
                    look_in(f"/{DATABASE_PATH}")
                    self.base.get_repo_sack().load_repos()
            except raised(self.dnf) as error:
                raise self._load_error(error) from error
        # now: another compose may bring it up to date as soon as it can
        self.metadata = tuple(map(self._metadata_of, self._repos))

    def forget_parsed(self) -> None:
        """Remove what libsolv keeps of metadata that it has read; it checks no digest of that."""
        for repo in self._repos:
            shutil.rmtree(os.path.join(repo.get_cachedir(), "solv"), ignore_errors=True)

    def snapshots(self) -> tuple[RepoSnapshot, ...]:
        """As they are now; of what is not loaded nobody knows the time."""
        snapshots = []
        for section, repo in self._pairs():
            keys: tuple[str, ...] = ()
            if option := section.option("gpgkey"):
                value = substitute(self.base, option.value)
                keys = split_list(absolute("gpgkey", value, os.path.dirname(section.path)))
            snapshots.append(
                RepoSnapshot(
                    id=section.id,
                    timestamp=int(repo.get_max_timestamp()) if self.metadata else 0,
                    gpgcheck=section.gpgcheck,
                    gpgkeys=keys,
                    priority=int(repo.get_priority()),
                )
            )
        return tuple(snapshots)

    def directories(self) -> tuple[tuple[str, str], ...]:
        """Those that are on this machine and nowhere else: id and path."""
        found = ((section.id, _directory_of(repo.get_config())) for section, repo in self._pairs())
        return tuple((name, directory) for name, directory in found if directory is not None)

    def _pairs(self) -> Iterator[tuple[RepoSection, Any]]:
        return zip(self.sections, self._repos, strict=True)

    def _metadata_of(self, repo: Any) -> Metadata:
        config = repo.get_config()
        cached = repo.get_cachedir()
        return Metadata(
            cached=os.path.relpath(cached, self._network.metadata_dir),
            origin=_directory_of(config),
            signed=bool(config.get_repo_gpgcheck_option().get_value()),
            repomd=digest_of(os.path.join(cached, REPOMD)),
            files=tuple(sizes(os.path.join(cached, "repodata"))),
        )

    def _watch(self, task: Task) -> Any:
        failures = self._failures

        class Watch(self.dnf.repo.DownloadCallbacks):  # type: ignore[name-defined,misc]
            """No body may raise: that aborts the process."""

            def __init__(self) -> None:
                super().__init__()
                self.repos: list[str] = []
                self.done: list[int] = []

            def add_new_download(self, user_data: Any, description: str, total: float) -> int:
                self.repos.append(description)
                self.done.append(0)
                return len(self.done) - 1

            def progress(self, number: int, total: float, downloaded: float) -> int:
                task.advance(int(downloaded) - self.done[number])
                self.done[number] = int(downloaded)
                return 0

            def mirror_failure(self, number: int, message: str, url: str, metadata: str) -> int:
                failures.append((self.repos[number], str(message)))
                return 0

        return Watch()

    def _load_error(self, error: Exception) -> LoadError:
        text = plain(self.dnf, error)
        match = _REPO_ID.search(text)
        section = next((each for each in self.sections if match and each.id == match["id"]), self.sections[0])
        failures = tuple(message for repo, message in self._failures if repo == section.id)
        _, _, cause = text.partition(f'repository "{section.id}": ')
        return LoadError(section, self._url(section), cause or text, failures)

    def _url(self, section: RepoSection) -> str:
        """Where the repository is said to be, variables replaced."""
        for key in ("metalink", "mirrorlist", "baseurl"):
            if option := section.option(key):
                return absolute(key, substitute(self.base, option.value), os.path.dirname(section.path))
        raise AssertionError("enabled_repos() lets no repository without a source pass")


def _directory_of(config: Any) -> str | None:
    """Of a repository that is one on this machine and nowhere else, by its libdnf5 settings."""
    urls = config.get_baseurl_option().get_value()
    if len(urls) != 1 or not (config.get_metalink_option().empty() and config.get_mirrorlist_option().empty()):
        return None
    return local_path(urls[0])


def _fresh_keyring(repo: Any) -> None:
    """For repo_gpgcheck=1: librepo puts the keys of gpgkey= into a GnuPG home and trusts what it finds there.

    So it is made anew: a key that was taken out of the .repo file must not stay trusted. gpg-agent, of no use for public
    keys, would outlive the compose.
    """
    if not repo.get_config().get_repo_gpgcheck_option().get_value():
        return
    home = os.path.join(repo.get_cachedir(), "pubring")
    shutil.rmtree(home, ignore_errors=True)
    os.makedirs(home, mode=0o700)
    with open(os.path.join(home, "gpg.conf"), "w", encoding="ascii") as stream:
        stream.write("no-autostart\n")
