"""The door to libdnf5: runs in a child process (see solver.py), and none of its objects leaves it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from compose.errors import SolveError, StorageError
from compose.events import Reporter, Task
from compose.rpm.repofile import RepoSection, absolute, local_path, split_list
from compose.rpm.repos import RepoNetwork, add_repos, configure, enabled_repos, substitute
from compose.rpm.specs import PackageSpec
from compose.solve import groups, locked
from compose.solve.advisories import security_advisories
from compose.solve.explain import explain, mentioned, name_of, nearest
from compose.solve.links import links_of, nevra_of, providing
from compose.solve.loaderror import SPACE_HINT, LoadError, is_of_disk
from compose.solve.memo import LOADING, REPOMD, Answer, Metadata, digest_of, libraries, sizes
from compose.solve.request import LocalRpm, SolveRequest
from compose.solve.resolution import COMMAND_LINE, Reason, RepoSnapshot, Resolution, ResolvedPackage

_REPO_ID = re.compile(r'(?:repository|repo) "(?P<id>[^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """known: the metadata that an answer from before was made of, None without one."""

    request: SolveRequest
    network: RepoNetwork
    known: tuple[Metadata, ...] | None = None


def resolve(job: Job, reporter: Reporter) -> Answer | None:
    """See solver.solve(); to be called in a process of its own. None: the answer from before holds, now that all metadata has
    been brought up to date and checked."""
    sections = enabled_repos(job.request.access)
    try:
        with _metadata_lock(job.network, reporter):
            session = _open(job, sections, reporter)
            # which another compose may bring up to date as soon as it can
            metadata = session.metadata()
    except OSError as error:
        raise StorageError(
            f"cannot write to {error.filename or job.network.metadata_dir}: {error.strerror}",
            hint=SPACE_HINT,
        ) from error
    if metadata == job.known and all(each.repomd for each in metadata):
        return None
    resolution = session.solve()
    return Answer(resolution=resolution, metadata=metadata, libraries=libraries())


def describe(job: Job, reporter: Reporter) -> Answer:
    """See solver.describe(); to be called in a process of its own."""
    resolution = _Session(job, enabled_repos(job.request.access), reporter).describe()
    return Answer(resolution=resolution, metadata=(), libraries=libraries())


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


def _open(job: Job, sections: tuple[RepoSection, ...], reporter: Reporter) -> _Session:
    """Load all repositories, trying again when that may help."""
    pause = job.network.pause
    for attempt in range(1, job.network.attempts + 1):
        session = _Session(job, sections, reporter)
        try:
            session.load()
        except LoadError as error:
            last = attempt == job.network.attempts
            if error.of_cache and not last:
                reporter.info(f"Repository {error.section.id!r}: {error.cause}; reading its metadata anew")
                session.forget_parsed()
                continue
            if last or not error.may_pass:
                raise error.told(job.network.metadata_dir) from error
            reporter.info(f"Repository {error.section.id!r}: {error.cause}; trying again in {pause:g} s")
            time.sleep(pause)
            pause *= 2
        else:
            return session
    raise AssertionError("attempts is at least 1")


class _Session:
    """A libdnf5 Base with the request's repositories. It lives until the process ends: whatever libdnf5 handed out is
    invalid, and crashes, once the Base is gone."""

    def __init__(self, job: Job, sections: tuple[RepoSection, ...], reporter: Reporter) -> None:
        import libdnf5

        self._dnf = libdnf5
        self._request = job.request
        self._network = job.network
        self._sections = sections
        self._reporter = reporter
        root = os.path.join(job.network.metadata_dir, "empty-root")
        os.makedirs(root, mode=0o700, exist_ok=True)
        self._base = libdnf5.base.Base()
        configure(self._base, job.request.access, job.network, root)
        config = self._base.get_config()
        config.get_install_weak_deps_option().set(job.request.recommends)
        types = ["filelists"]
        if any(groups.is_group(spec.text) for spec in job.request.packages):
            types.append("comps")
        if job.request.advisories:
            types.append("updateinfo")
        config.get_optional_metadata_types_option().set(types)
        self._base.setup()
        self._repos = add_repos(self._base, sections, job.network, reporter)
        self._failures: list[tuple[str, str]] = []
        self._locked_out: frozenset[str] = frozenset()

    def load(self) -> None:
        """Fetch and read the metadata of all repositories. Raises LoadError for the first that fails."""
        with self._reporter.task(LOADING, unit="bytes") as task:
            callbacks = self._watch(task)
            self._base.set_download_callbacks(self._dnf.repo.DownloadCallbacksUniquePtr(callbacks))
            # held: a callback object that is collected aborts the process
            self._callbacks = callbacks
            for repo in self._repos:
                _fresh_keyring(repo)
            try:
                # only the available ones: loading the system's makes an rpmdb in the root
                self._base.get_repo_sack().load_repos(self._dnf.repo.Repo.Type_AVAILABLE)
            except (self._dnf.exception.Error, RuntimeError) as error:
                raise self._load_error(error) from error

    def metadata(self) -> tuple[Metadata, ...]:
        """What was loaded."""
        found = []
        for repo in self._repos:
            config = repo.get_config()
            cached = repo.get_cachedir()
            found.append(
                Metadata(
                    cached=os.path.relpath(cached, self._network.metadata_dir),
                    origin=_directory_of(config),
                    signed=bool(config.get_repo_gpgcheck_option().get_value()),
                    repomd=digest_of(os.path.join(cached, REPOMD)),
                    files=tuple(sizes(os.path.join(cached, "repodata"))),
                )
            )
        return tuple(found)

    def forget_parsed(self) -> None:
        """Remove what libsolv keeps of metadata that it has read; it checks no digest of that."""
        for repo in self._repos:
            shutil.rmtree(os.path.join(repo.get_cachedir(), "solv"), ignore_errors=True)

    def _watch(self, task: Task) -> Any:
        failures = self._failures

        class Watch(self._dnf.repo.DownloadCallbacks):  # type: ignore[name-defined,misc]
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
        text = _plain(self._dnf, error)
        match = _REPO_ID.search(text)
        section = next((each for each in self._sections if match and each.id == match["id"]), self._sections[0])
        failures = tuple(message for repo, message in self._failures if repo == section.id)
        _, _, cause = text.partition(f'repository "{section.id}": ')
        return LoadError(section, self._url(section), cause or text, failures)

    def _url(self, section: RepoSection) -> str:
        """Where the repository is said to be, variables replaced."""
        for key in ("metalink", "mirrorlist", "baseurl"):
            if option := section.option(key):
                return absolute(key, substitute(self._base, option.value), os.path.dirname(section.path))
        raise AssertionError("enabled_repos() lets no repository without a source pass")

    def describe(self) -> Resolution:
        """The repositories and the RPMs of none, nothing loaded."""
        goal = self._dnf.base.Goal(self._base)
        local = self._add_local(goal)
        query = self._dnf.rpm.PackageQuery(self._base)
        packages = [self._resolved(package, Reason.REQUESTED, set(), local) for package in query] if local else []
        return Resolution(packages=tuple(packages), repos=self._snapshots(metadata=False))

    def solve(self) -> Resolution:
        """Raises SolveError."""
        excluded = {spec.text: spec.place for spec in self._request.exclude_packages}
        if excluded:
            query = self._query()
            query.filter_name(sorted(excluded))
            self._base.get_rpm_package_sack().add_user_excludes(query)
        if self._request.lock is not None:
            self._locked_out = locked.hide(self._dnf, self._base, self._request.lock, self._reporter)
        goal = self._dnf.base.Goal(self._base)
        local = self._add_local(goal)
        wanted = [spec for spec in self._request.packages if groups.is_group(spec.text)]
        by_group = groups.members(self._dnf, self._base, wanted)
        for text in sorted(by_group):
            groups.add(self._dnf, goal, text)
        # sorted: the answer may depend on the order of jobs, and must not on the order of lines in a treefile
        jobs = sorted(self._jobs(), key=lambda job: (job[0].text, job[1] or "", job[0].place))
        for spec, repo in dict.fromkeys((spec.text, repo) for spec, repo in jobs):
            goal.add_rpm_install(spec, self._settings(repo))
        try:
            transaction = goal.resolve()
        except self._dnf.exception.Error as error:
            # only now what it has read is written to its cache
            text = _plain(self._dnf, error)
            if not is_of_disk(text):
                raise
            raise StorageError(
                f"metadata cannot be stored in {self._network.metadata_dir}: {text}", hint=SPACE_HINT
            ) from error
        self._check(transaction, jobs, excluded)
        chosen = [item.get_package() for item in transaction.get_transaction_packages()]
        return Resolution(
            packages=self._packages(transaction, jobs, by_group, local),
            repos=self._snapshots(),
            advisories=security_advisories(self._dnf, self._base, chosen) if self._request.advisories else (),
            links=links_of(self._dnf, self._base, chosen) if self._request.links else (),
        )

    def _add_local(self, goal: Any) -> dict[str, LocalRpm]:
        """Ask for the RPMs that are in no repository; returns them by path."""
        found = {each.path: each for each in self._request.rpm_files}
        if not found:
            return found
        try:
            self._base.get_repo_sack().add_cmdline_packages(sorted(found), True)
        except (self._dnf.exception.Error, RuntimeError) as error:
            raise SolveError(f"an RPM of rpm-files cannot be read: {_plain(self._dnf, error)}") from error
        query = self._dnf.rpm.PackageQuery(self._base)
        query.filter_repo_id([COMMAND_LINE])
        for package in query:
            goal.add_rpm_install(package, self._dnf.base.GoalJobSettings())
        return found

    def _jobs(self) -> Iterator[tuple[PackageSpec, str | None]]:
        """Every spec with the repository it must come from, None for any."""
        known = {section.id for section in self._sections}
        for spec in self._request.packages:
            if not groups.is_group(spec.text):
                yield spec, None
        for entry in self._request.repo_packages:
            if entry.repo not in known:
                raise SolveError(
                    f"{entry.place}: repo-packages names the repository {entry.repo!r}, which is not enabled",
                    hint=f"the enabled ones are: {', '.join(sorted(known))}",
                )
            for spec in entry.packages:
                yield spec, entry.repo

    def _settings(self, repo: str | None) -> Any:
        settings = self._dnf.base.GoalJobSettings()
        # "foo" is a name or something provided, never /usr/bin/foo
        settings.set_with_binaries(False)
        if repo is not None:
            settings.set_to_repo_ids([repo])
        return settings

    def _query(self) -> Any:
        """All packages that are not excluded."""
        query = self._dnf.rpm.PackageQuery(self._base)
        query.filter_available()
        return query

    def _fitting(self, text: str, repo: str | None) -> Any:
        """Query for the packages that a spec fits."""
        query = self._query()
        settings = self._dnf.base.ResolveSpecSettings()
        settings.set_with_binaries(False)
        query.resolve_pkg_spec(text, settings, False)
        if repo is not None:
            query.filter_repo_id([repo])
        return query

    def _matching(self, text: str, repo: str | None) -> set[str]:
        """NEVRAs that a spec fits."""
        return {package.get_nevra() for package in self._fitting(text, repo)}

    def _check(self, transaction: Any, jobs: list[tuple[PackageSpec, str | None]], excluded: dict[str, str]) -> None:
        if int(transaction.get_problems()) == self._dnf.base.GoalProblem_NO_PROBLEM:
            return
        solver: list[str] = []
        told: list[str] = []
        unmatched: set[str] = set()
        hidden: set[str] = set()
        for event in transaction.get_resolve_logs():
            if problems := event.get_solver_problems():
                solver.append(problems.to_string())
            elif event.get_problem() == self._dnf.base.GoalProblem_EXCLUDED:
                hidden.add(event.get_spec())
            elif event.get_spec():
                unmatched.add(event.get_spec())
            else:
                told.append(event.to_string())
        missing = [
            (spec, repo)
            for spec, repo in jobs
            if spec.text in hidden | unmatched and not self._matching(spec.text, repo)
        ]
        names = {package.get_name() for package in self._query()} if missing else set()
        # from here on queries see what exclude-packages hid, to tell why it is missing
        self._base.get_rpm_package_sack().clear_user_excludes()
        if missing:
            lines = [
                self._why_hidden(spec, repo, excluded) if spec.text in hidden else self._why_missing(spec, repo, names)
                for spec, repo in missing
            ]
            raise SolveError(
                lines[0] if len(lines) == 1 else f"{len(lines)} of the packages asked for cannot be found",
                hint="drop it from packages or from the excludes"
                if hidden.issuperset(spec.text for spec, _ in missing)
                else "check the spelling, and that the repository that has it is enabled (now: "
                f"{', '.join(section.id for section in self._sections)})",
                details=() if len(lines) == 1 else lines,
            )
        raise self._conflict("\n".join(solver), told, jobs, excluded)

    def _why_hidden(self, spec: PackageSpec, repo: str | None, excluded: dict[str, str]) -> str:
        for nevra in sorted(self._matching(spec.text, repo)):
            if by := excluded.get(name_of(nevra)):
                return f"{spec.place}: {nevra} is filtered out by exclude-packages ({by})"
            if nevra in self._locked_out and self._request.lock is not None:
                return f"{spec.place}: {nevra} is not what {self._request.lock.place} has locked"
        return f"{spec.place}: {spec.text!r} is filtered out by excludepkgs= or includepkgs= of a .repo file"

    def _why_missing(self, spec: PackageSpec, repo: str | None, names: set[str]) -> str:
        where = f"in repository {repo!r}" if repo else "in any enabled repository"
        fault = f"{spec.place}: there is no package {spec.text!r} {where}"
        if repo and (elsewhere := sorted(self._matching(spec.text, None))):
            return f"{fault}; another one has {elsewhere[-1]}"
        name = re.split(r"[<>=\s]", spec.text, maxsplit=1)[0]
        if name != spec.text and (builds := sorted(self._matching(name, repo))):
            return f"{fault}, only {', '.join(builds)}"
        if close := nearest(spec.text, names):
            return f"{fault}; did you mean {' or '.join(close)}?"
        return fault

    def _conflict(
        self,
        problem: str,
        told: list[str],
        jobs: list[tuple[PackageSpec, str | None]],
        excluded: dict[str, str],
    ) -> SolveError:
        subjects = set(mentioned(problem))
        requested: dict[str, list[str]] = {}
        for spec, repo in jobs:
            for nevra in sorted(self._matching(spec.text, repo) & subjects):
                requested.setdefault(nevra, []).append(f"{spec.place}: {spec.text}")

        def providers(dependency: str) -> frozenset[str]:
            query = self._query()
            if not dependency.startswith("("):
                query = providing(query, self._query(), dependency)
            else:
                # a rich dependency: of the packages told about, those its words name
                query.filter_name(re.findall(r"[^\s()]+", dependency))
            return frozenset(package.get_nevra() for package in query) & subjects

        lines = explain(problem, requested=requested, providers=providers, excluded=excluded)
        entries = sorted({entry for nevra in requested for entry in requested[nevra] if entry in lines})
        return SolveError(
            f"the packages cannot be installed together ({entries[0]})"
            if len(entries) == 1
            else "the packages cannot be installed together",
            hint="enable the repository that has what is missing, or drop one of the packages that conflict",
            details=(*lines, *told),
        )

    def _packages(
        self,
        transaction: Any,
        jobs: list[tuple[PackageSpec, str | None]],
        by_group: dict[str, frozenset[str]],
        local: dict[str, LocalRpm],
    ) -> tuple[ResolvedPackage, ...]:
        reasons = {
            self._dnf.transaction.TransactionItemReason_USER: Reason.REQUESTED,
            self._dnf.transaction.TransactionItemReason_GROUP: Reason.REQUESTED,
            self._dnf.transaction.TransactionItemReason_WEAK_DEPENDENCY: Reason.WEAK,
        }
        specs: dict[str, set[str]] = {}
        newest: dict[tuple[str, str], tuple[str, str]] = {}
        for spec, repo in jobs:
            query = self._fitting(spec.text, repo)
            for package in query:
                specs.setdefault(package.get_nevra(), set()).add(spec.text)
            query.filter_priority()
            query.filter_latest_evr()
            for package in query:
                newest[package.get_name(), package.get_arch()] = (package.get_nevra(), spec.place)
        packages = []
        for item in transaction.get_transaction_packages():
            package = item.get_package()
            reason = reasons.get(item.get_reason(), Reason.DEPENDENCY)
            asked = set(specs.get(package.get_nevra(), ())) if reason is Reason.REQUESTED else set()
            if reason is Reason.REQUESTED:
                asked |= {text for text, names in by_group.items() if package.get_name() in names}
            resolved = self._resolved(package, reason, asked, local)
            packages.append(resolved)
            best, place = newest.get((package.get_name(), package.get_arch()), (package.get_nevra(), ""))
            if asked and best != package.get_nevra():
                self._reporter.warn(f"{place}: {package.get_nevra()} is taken, for {best} cannot be installed")
        return tuple(sorted(packages, key=lambda each: each.nevra))

    def _resolved(self, package: Any, reason: Reason, asked: set[str], local: dict[str, LocalRpm]) -> ResolvedPackage:
        checksum = package.get_checksum()
        given = local.get(package.get_package_path()) if package.get_repo_id() == COMMAND_LINE else None
        return ResolvedPackage(
            nevra=nevra_of(package),
            repo=package.get_repo_id(),
            location=given.path if given else package.get_location(),
            checksum=("sha256", given.sha256) if given else (checksum.get_type_str(), checksum.get_checksum()),
            download_size=int(package.get_download_size()),
            install_size=int(package.get_install_size()),
            source_rpm=package.get_sourcerpm(),
            reason=reason,
            specs=tuple(sorted(asked if given is None else {*asked, os.path.basename(given.path)})),
        )

    def _snapshots(self, *, metadata: bool = True) -> tuple[RepoSnapshot, ...]:
        snapshots = []
        for section, repo in zip(self._sections, self._repos, strict=True):
            keys: tuple[str, ...] = ()
            if option := section.option("gpgkey"):
                value = substitute(self._base, option.value)
                keys = split_list(absolute("gpgkey", value, os.path.dirname(section.path)))
            snapshots.append(
                RepoSnapshot(
                    id=section.id,
                    timestamp=int(repo.get_max_timestamp()) if metadata else 0,
                    gpgcheck=section.gpgcheck,
                    gpgkeys=keys,
                    priority=int(repo.get_priority()),
                )
            )
        return tuple(snapshots)


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


def _plain(dnf: Any, error: Exception) -> str:
    """The whole chain of a nested libdnf5 exception on one line."""
    text = error.format(dnf.exception.FormatDetailLevel_Plain) if hasattr(error, "format") else str(error)
    return " ".join(text.split())
