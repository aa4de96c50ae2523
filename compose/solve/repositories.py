"""Loads the repositories of a request into libdnf5."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from compose import fs
from compose.errors import SolveError, StorageError, UsageError
from compose.events import Reporter, Task
from compose.limits import LIMITS
from compose.rpm.database import DATABASE_PATH, look_in
from compose.rpm.repofile import RepoSection, local_path, split_list
from compose.rpm.repos import RepoNetwork, add_repos, configure, enabled_repos, key_paths, raised, value_of
from compose.sizes import size
from compose.solve import groups
from compose.solve.loaderror import SPACE_HINT, LoadError, plain
from compose.solve.memo import LOADING, REPOMD, Metadata, digest_of, sizes
from compose.solve.request import SolveRequest
from compose.solve.resolution import RepoSnapshot

Result = TypeVar("Result")

_OTHER_NAMES = {"amd64": "x86_64", "arm64": "aarch64", "ppc64el": "ppc64le", "386": "i386", "x86": "i386"}
"""Debian's and container tools' names of architectures, and RPM's."""
_LARGEST = 1_000_000_000
"""Bytes that a file of metadata may have: the largest of real distributions have a tenth of that."""
_UNFINISHED = re.compile(r".+\.solvx?\.[0-9A-Za-z]{6}")
"""Names of files that libdnf5 is writing to libsolv's cache."""
_LOST = b"mapping pread: "
"""Begins what libsolv prints about data that its cache should have, and has not (repopage_load_page_range())."""
_MOST_PRINTED = 1 << 20
_REPO_ID = re.compile(r'(?:repository|repo) "(?P<id>[^"]+)"')


def load_repositories(
    request: SolveRequest, network: RepoNetwork, reporter: Reporter, *, installed: str | None = None
) -> Repositories:
    """Refresh and load all enabled repositories. installed: a private directory that contains only an rpm database at
    DATABASE_PATH, with the installed packages; None if nothing is installed.

    Raises FetchError for a repository that cannot be loaded, StorageError if the cache cannot be written, TreefileError for
    errors in .repo files.
    """
    with _metadata_lock(network, reporter):
        _remove_partial(network.metadata_dir)
        return _loaded(request, network, reporter, installed)


def using_repositories(
    request: SolveRequest,
    network: RepoNetwork,
    reporter: Reporter,
    use: Callable[[Repositories], Result],
    *,
    installed: str | None = None,
) -> Result:
    """Return use(load_repositories()). libdnf5 does not notice when the disk is too full for the end of libsolv's cache; then
    the metadata is parsed again. Raises StorageError if that does not help either, and as load_repositories() and use() do."""
    for _ in range(2):
        repositories = load_repositories(request, network, reporter, installed=installed)
        try:
            result = use(repositories)
        except SolveError:
            if not repositories.have_lost_data():
                raise
        else:
            if not repositories.have_lost_data():
                return result
        reporter.info("The cache of parsed metadata is not complete; parsing it again")
        with _metadata_lock(network, reporter):
            repositories.forget_parsed()
    raise StorageError(f"cannot store all of the metadata in {network.metadata_dir}", hint=SPACE_HINT)


def _check_architecture(dnf: Any, basearch: str) -> None:
    known = {dnf.rpm.get_base_arch(arch) for arch in dnf.rpm.get_supported_arches()} - {"noarch"}
    if basearch not in known:
        near = _OTHER_NAMES.get(basearch) or next(iter(difflib.get_close_matches(basearch, sorted(known), n=1)), "")
        raise UsageError(
            f"{basearch}: not an architecture of RPM repositories",
            hint=f"did you mean {near}?" if near else f"choose one of {', '.join(sorted(known))}",
        )


@contextmanager
def _metadata_lock(network: RepoNetwork, reporter: Reporter) -> Iterator[None]:
    """Hold the lock on metadata_dir while refreshing metadata, since composes may share a cachedir. Raises StorageError, also
    for what the block is refused."""
    place = network.metadata_dir
    try:
        with fs.obstacles(place):
            os.makedirs(place, mode=0o700, exist_ok=True)
            descriptor = os.open(os.path.join(place, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fs.lock(descriptor, lambda: reporter.info(f"Waiting for another compose that is refreshing {place}"))
                yield
            finally:
                os.close(descriptor)
    except OSError as error:
        if error.errno in LIMITS:
            raise
        raise fs.storage_error(error.filename or place, error) from error


def _remove_partial(metadata_dir: str) -> None:
    """Remove what killed composes were downloading; to be called with the lock held, under which all downloads are made."""
    for repository in os.scandir(metadata_dir):
        if repository.is_dir(follow_symlinks=False):
            for name in os.listdir(repository.path):
                # as libdnf5 names them (RepoDownloader::download_metadata())
                if name.startswith("tmpdir."):
                    fs.remove_tree(os.path.join(repository.path, name))
            with suppress(FileNotFoundError):
                # downloads of packages may write there without the lock
                fs.remove_unfinished(os.path.join(repository.path, "solv"), names=_UNFINISHED)


def _loaded(request: SolveRequest, network: RepoNetwork, reporter: Reporter, installed: str | None) -> Repositories:
    """Load the repositories, retrying after transient errors and after damage to libsolv's cache."""
    pause = network.pause
    for attempt in range(1, network.attempts + 1):
        repositories = Repositories(request, network, reporter, installed)
        try:
            repositories.load()
        except LoadError as error:
            last = attempt == network.attempts
            if error.of_cache and not last:
                reporter.info(f"Repository {error.section.id!r}: {error.cause}; parsing its metadata again")
                repositories.forget_parsed()
                continue
            if last or not error.is_transient:
                raise error.as_error(network.metadata_dir) from error
            reporter.info(f"Repository {error.section.id!r}: {error.cause}; trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2
        else:
            return repositories
    raise AssertionError("attempts is at least 1")


class Repositories:
    """A libdnf5 Base with the repositories of a request. It must live until the process ends: objects that libdnf5 returned
    crash once the Base is gone.

    dnf: the libdnf5 module. base: the Base. sections: the repositories' sections in .repo files. metadata: what was loaded of
    each, in the same order. Raises TreefileError for errors in .repo files, UsageError for an unknown architecture.
    """

    def __init__(
        self, request: SolveRequest, network: RepoNetwork, reporter: Reporter, installed: str | None = None
    ) -> None:
        import libdnf5

        self._printed = os.fstat(2).st_size
        self.dnf = libdnf5
        _check_architecture(libdnf5, request.access.basearch)
        self.sections = enabled_repos(request.access)
        self.metadata: tuple[Metadata, ...] = ()
        self._network = network
        self._reporter = reporter
        self._installed = installed
        self._access = request.access
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
        self._repos = add_repos(self.base, self.sections, reporter)
        self._failures: list[tuple[str, str]] = []

    def load(self) -> None:
        """Fetch and parse the metadata of all repositories. Raises LoadError for the first one that fails."""
        with self._reporter.task(LOADING, unit="bytes") as task:
            callbacks = self._watch(task)
            self.base.set_download_callbacks(self.dnf.repo.DownloadCallbacksUniquePtr(callbacks))
            # keep a reference: collecting a callback object aborts the process
            self._callbacks = callbacks
            for repo in self._repos:
                if repo.get_config().get_repo_gpgcheck_option().get_value():
                    _fresh_keyring(repo)
                    self._find_keys(repo)
            try:
                if self._installed is None:
                    # only the available ones: loading the system repository creates an rpmdb in the root
                    self.base.get_repo_sack().load_repos(self.dnf.repo.Repo.Type_AVAILABLE)
                else:
                    look_in(f"/{DATABASE_PATH}")
                    self.base.get_repo_sack().load_repos()
            except raised(self.dnf) as error:
                raise self._load_error(error) from error
        # while the lock is held: afterwards another compose may refresh it
        self.metadata = tuple(map(self._metadata_of, self._repos))

    def _find_keys(self, repo: Any) -> None:
        """Point librepo to the key files that packages are checked with: it would look on this machine alone."""
        option = repo.get_config().get_gpgkey_option()
        found = []
        for url in option.get_value():
            paths = key_paths(path, self._access) if (path := local_path(url)) else ()
            there = next(filter(os.path.isfile, paths), None)
            found.append(url if there is None else Path(os.path.abspath(there)).as_uri())
        option.set(" ".join(found))

    def forget_parsed(self) -> None:
        """Remove libsolv's cache of parsed metadata, whose integrity it does not check."""
        for repo in self._repos:
            shutil.rmtree(os.path.join(repo.get_cachedir(), "solv"), ignore_errors=True)

    def have_lost_data(self) -> bool:
        """Has libsolv's cache of a repository lost data that was looked for? Known only if standard error is a file."""
        with suppress(OSError):
            return _LOST in os.pread(2, _MOST_PRINTED, self._printed)
        return False

    def snapshots(self) -> tuple[RepoSnapshot, ...]:
        """The repositories as they are now; the timestamp is 0 if they are not loaded, or if it is after 2038."""
        snapshots = []
        for section, repo in self._pairs():
            keys: tuple[str, ...] = ()
            if option := section.option("gpgkey"):
                keys = split_list(value_of(self.base, section, option))
            snapshots.append(
                RepoSnapshot(
                    id=section.id,
                    # libdnf5 counts in 32 bits: what it does not hold is unknown
                    timestamp=max(0, int(repo.get_max_timestamp())) if self.metadata else 0,
                    gpgcheck=section.gpgcheck,
                    gpgkeys=keys,
                    priority=int(repo.get_priority()),
                )
            )
        return tuple(snapshots)

    def directories(self) -> tuple[tuple[str, str], ...]:
        """(id, path) of each repository whose only source is a local directory."""
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
        give_up = self.dnf.repo.DownloadCallbacks.ERROR

        class Watch(self.dnf.repo.DownloadCallbacks):  # type: ignore[name-defined,misc]
            """Counts bytes and records failures. No method may raise: that aborts the process."""

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
                if max(total, downloaded) > _LARGEST:
                    failures.append((self.repos[number], f"a file of its metadata is larger than {size(_LARGEST)}"))
                    return int(give_up)
                return 0

            def mirror_failure(self, number: int, message: str, url: str, metadata: str) -> int:
                failures.append((self.repos[number], str(message)))
                return 0

        return Watch()

    def _load_error(self, error: Exception) -> LoadError:
        text = plain(self.dnf, error)
        match = _REPO_ID.search(text)
        section = next((found for found in self.sections if match and found.id == match["id"]), self.sections[0])
        failures = tuple(message for repo, message in self._failures if repo == section.id)
        _, _, cause = text.partition(f'repository "{section.id}": ')
        return LoadError(section, self._url(section), cause or text, failures)

    def _url(self, section: RepoSection) -> str:
        """The URL of a repository, with variables replaced."""
        # enabled_repos() rejects repositories without one
        assert section.source is not None
        return value_of(self.base, section, section.source)


def _directory_of(config: Any) -> str | None:
    """The local directory that is the only source of a repository with these libdnf5 settings, else None."""
    urls = config.get_baseurl_option().get_value()
    if len(urls) != 1 or not (config.get_metalink_option().empty() and config.get_mirrorlist_option().empty()):
        return None
    return local_path(urls[0])


def _fresh_keyring(repo: Any) -> None:
    """Recreate the GnuPG home of a repository with repo_gpgcheck=1.

    librepo imports the keys of gpgkey= into it and trusts all keys in it, so a key that was removed from the .repo file would
    stay trusted. gpg-agent is not started: public keys do not need it, and it would outlive the compose.
    """
    home = os.path.join(repo.get_cachedir(), "pubring")
    shutil.rmtree(home, ignore_errors=True)
    os.makedirs(home, mode=0o700)
    with open(os.path.join(home, "gpg.conf"), "w", encoding="ascii") as stream:
        stream.write("no-autostart\n")
