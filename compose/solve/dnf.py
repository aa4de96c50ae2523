"""Solves with libdnf5. Runs in a child process (see solver.py), which no libdnf5 object leaves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from compose.errors import SolveError, StorageError
from compose.events import Reporter
from compose.rpm.repos import RepoNetwork, raised
from compose.rpm.specs import PackageSpec
from compose.solve import groups, locked
from compose.solve.advisories import security_advisories, security_updates
from compose.solve.explain import explain, mentioned, name_of, nearest
from compose.solve.files import lacking
from compose.solve.links import links_of, nevra_of, providing
from compose.solve.loaderror import SPACE_HINT, is_of_disk, plain
from compose.solve.memo import Answer, Metadata, libraries
from compose.solve.repositories import Repositories, using_repositories
from compose.solve.request import LocalRpm, SolveRequest
from compose.solve.resolution import COMMAND_LINE, Reason, Resolution, ResolvedPackage

_SOURCES = ("src", "nosrc")
_MISSPELT = 10
"""More missing packages than these are not misspelt, but of a repository that is not enabled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Input of resolve() and describe(). known: the metadata that a remembered answer is based on, None if there is none."""

    request: SolveRequest
    network: RepoNetwork
    known: tuple[Metadata, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideJob:
    """Input of resolve_beside(), see solver.solve_beside()."""

    request: SolveRequest
    network: RepoNetwork
    root: str
    alone: tuple[PackageSpec, ...]


def resolve(job: Job, reporter: Reporter) -> Answer | None:
    """See solver.solve(); to be called in a process of its own. Returns None if, after refreshing and verifying all
    metadata, the remembered answer still holds."""

    def answer(repositories: Repositories) -> Answer | None:
        metadata = repositories.metadata
        if metadata == job.known and all(repository.repomd for repository in metadata):
            return None
        resolution = _Solver(repositories, job, reporter).solve()
        return Answer(resolution=resolution, metadata=metadata, libraries=libraries())

    return using_repositories(job.request, job.network, reporter, answer)


def resolve_beside(job: BesideJob, reporter: Reporter) -> Resolution:
    """See solver.solve_beside(); to be called in a process of its own."""

    def answer(repositories: Repositories) -> Resolution:
        return _Solver(repositories, Job(request=job.request, network=job.network), reporter).solve_beside(job.alone)

    return using_repositories(job.request, job.network, reporter, answer, installed=job.root)


def describe(job: Job, reporter: Reporter) -> Answer:
    """See solver.describe(); to be called in a process of its own."""
    repositories = Repositories(job.request, job.network, reporter)
    resolution = _Solver(repositories, job, reporter).describe()
    return Answer(resolution=resolution, metadata=(), libraries=libraries())


class _Solver:
    """Runs queries and goals on loaded repositories; describe() needs none loaded."""

    def __init__(self, repositories: Repositories, job: Job, reporter: Reporter) -> None:
        self._repositories = repositories
        self._dnf = repositories.dnf
        self._base = repositories.base
        self._request = job.request
        self._network = job.network
        self._reporter = reporter
        # name -> place in the treefile
        self._excluded = {spec.text: spec.place for spec in job.request.exclude_packages}
        # NEVRAs hidden by the lockfile
        self._locked_out: frozenset[str] = frozenset()
        # NEVRAs hidden because another build is installed
        self._other_builds: set[str] = set()

    def describe(self) -> Resolution:
        """The repositories and the request's RPM files, without loading any metadata."""
        goal = self._dnf.base.Goal(self._base)
        local = self._add_local(goal)
        query = self._dnf.rpm.PackageQuery(self._base)
        packages = [self._resolved(package, Reason.REQUESTED, set(), local) for package in query] if local else []
        return Resolution(
            packages=tuple(packages),
            repos=self._repositories.snapshots(),
            directories=self._repositories.directories(),
        )

    def solve(self) -> Resolution:
        """Raises SolveError."""
        if self._excluded:
            query = self._query()
            query.filter_name(sorted(self._excluded))
            self._base.get_rpm_package_sack().add_user_excludes(query)
        if self._request.lock is not None:
            self._locked_out = locked.hide(self._dnf, self._base, self._request.lock, self._reporter)
        goal = self._dnf.base.Goal(self._base)
        local = self._add_local(goal)
        wanted = [spec for spec in self._request.packages if groups.is_group(spec.text)]
        by_group = groups.members(self._dnf, self._base, wanted)
        for text in sorted(by_group):
            groups.add(self._dnf, goal, text)
        # sorted, as the answer may depend on the order of jobs, but must not depend on the order of lines in a treefile
        jobs = sorted(self._jobs(), key=lambda job: (job[0].text, job[1] or "", job[0].place))
        for spec, repo in dict.fromkeys((spec.text, repo) for spec, repo in jobs):
            goal.add_rpm_install(spec, self._settings(repo))
        try:
            transaction = goal.resolve()
        except raised(self._dnf) as error:
            # only now does libdnf5 write the parsed metadata to its cache
            text = plain(self._dnf, error)
            if not is_of_disk(text):
                raise
            raise StorageError(
                f"cannot store metadata in {self._network.metadata_dir}: {text}", hint=SPACE_HINT
            ) from error
        self._check(transaction, jobs)
        self._check_nothing_is_removed(transaction)
        chosen = [item.get_package() for item in _inbound(transaction)]
        before = self._request.installed if self._request.advisories else ()
        return Resolution(
            packages=self._packages(transaction, jobs, by_group, local),
            repos=self._repositories.snapshots(),
            advisories=security_advisories(self._dnf, self._base, chosen) if self._request.advisories else None,
            fixes=security_updates(self._dnf, self._base, before, map(nevra_of, chosen)) if before else (),
            links=links_of(self._dnf, self._base, chosen) if self._request.links else (),
            lacking=self._lacking(chosen),
            directories=self._repositories.directories(),
        )

    def _lacking(self, chosen: list[Any]) -> tuple[tuple[str, ...], ...]:
        """What of the request's files none of these packages has."""
        # without filelists, metadata names only the most common files
        complete = all(any("filelists" in name for name, _ in each.files) for each in self._repositories.metadata)
        return lacking(self._dnf, self._base, chosen, self._request.files) if complete else ()

    def solve_beside(self, alone: tuple[PackageSpec, ...]) -> Resolution:
        """Solve without changing installed packages. Raises SolveError."""
        # before other builds of installed packages are hidden, which may be among these
        chosen = self._newest(alone)
        self._hide_other_builds()
        resolution = self.solve()
        known = {package.nevra: package for package in resolution.packages}
        for package, text in chosen:
            nevra = nevra_of(package)
            specs = {text, *(known[nevra].specs if nevra in known else ())}
            known[nevra] = self._resolved(package, Reason.REQUESTED, specs, {})
        return replace(resolution, packages=tuple(known[nevra] for nevra in sorted(known)))

    def _hide_other_builds(self) -> None:
        """Hide other builds of installed packages, so that nothing replaces those."""
        installed = self._dnf.rpm.PackageQuery(self._base)
        installed.filter_installed()
        names = {(package.get_name(), package.get_arch()) for package in installed}
        query = self._query()
        query.filter_name(sorted({name for name, _ in names}))
        hidden = self._dnf.rpm.PackageSet(self._base)
        for package in query:
            if (package.get_name(), package.get_arch()) in names:
                hidden.add(package)
                self._other_builds.add(package.get_nevra())
        self._base.get_rpm_package_sack().add_user_excludes(hidden)

    def _newest(self, specs: tuple[PackageSpec, ...]) -> list[tuple[Any, str]]:
        """The newest build of each package name that a spec matches, with the spec, regardless of dependencies. Raises
        SolveError."""
        ranks = {self._base.get_vars().get_value("arch"): 0, "noarch": 1}
        found: list[tuple[Any, str]] = []
        missing = []
        for spec in specs:
            query = self._query_for(spec.text, None)
            query.filter_arch(list(_SOURCES), self._dnf.common.QueryCmp_NEQ)
            query.filter_priority()
            query.filter_latest_evr()
            chosen: dict[str, Any] = {}
            # of several architectures, the native one
            for package in sorted(query, key=lambda build: (ranks.get(build.get_arch(), 2), nevra_of(build))):
                chosen.setdefault(package.get_name(), package)
            if not chosen:
                missing.append(spec)
            found += [(package, spec.text) for package in chosen.values()]
        if missing:
            names = {package.get_name() for package in self._query()}
            few = len(missing) <= _MISSPELT
            raise self._not_found([self._why_missing(spec, None, names, few=few) for spec in missing])
        return found

    def _add_local(self, goal: Any) -> dict[str, LocalRpm]:
        """Add the RPM files that do not come from a repository to the goal; returns them by path."""
        found = {rpm.path: rpm for rpm in self._request.rpm_files}
        if not found:
            return found
        try:
            self._base.get_repo_sack().add_cmdline_packages(sorted(found), True)
        except raised(self._dnf) as error:
            raise SolveError(f"cannot read an RPM of rpm-files: {plain(self._dnf, error)}") from error
        query = self._dnf.rpm.PackageQuery(self._base)
        query.filter_repo_id([COMMAND_LINE])
        for package in query:
            goal.add_rpm_install(package, self._dnf.base.GoalJobSettings())
        return found

    def _jobs(self) -> Iterator[tuple[PackageSpec, str | None]]:
        """Every spec that is not a group, with the repository it must come from, None for any."""
        known = {section.id for section in self._repositories.sections}
        for spec in self._request.packages:
            if not groups.is_group(spec.text):
                yield spec, None
        for entry in self._request.repo_packages:
            if entry.repo not in known:
                raise SolveError(
                    f"{entry.place}: repo-packages names the repository {entry.repo!r}, which is not enabled",
                    hint=f"enabled repositories: {', '.join(sorted(known))}",
                )
            for spec in entry.packages:
                yield spec, entry.repo

    def _settings(self, repo: str | None) -> Any:
        settings = self._dnf.base.GoalJobSettings()
        # "foo" is a name or a provide, never /usr/bin/foo
        settings.set_with_binaries(False)
        if repo is not None:
            settings.set_to_repo_ids([repo])
        return settings

    def _query(self) -> Any:
        """All packages that are not excluded."""
        query = self._dnf.rpm.PackageQuery(self._base)
        query.filter_available()
        return query

    def _query_for(self, text: str, repo: str | None) -> Any:
        """Query for the packages that a spec matches."""
        query = self._query()
        settings = self._dnf.base.ResolveSpecSettings()
        settings.set_with_binaries(False)
        query.resolve_pkg_spec(text, settings, False)
        if repo is not None:
            query.filter_repo_id([repo])
        return query

    def _matching(self, text: str, repo: str | None) -> set[str]:
        """NEVRAs that a spec matches."""
        return {package.get_nevra() for package in self._query_for(text, repo)}

    def _check(self, transaction: Any, jobs: list[tuple[PackageSpec, str | None]]) -> None:
        """Raise a SolveError that explains why there is no solution, if so."""
        if int(transaction.get_problems()) == self._dnf.base.GoalProblem_NO_PROBLEM:
            return
        solver: list[str] = []
        others: list[str] = []
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
                others.append(event.to_string())
        missing = [
            (spec, repo)
            for spec, repo in jobs
            if spec.text in hidden | unmatched and not self._matching(spec.text, repo)
        ]
        names = {package.get_name() for package in self._query()} if missing else set()
        few = len(missing) <= _MISSPELT
        # from here on queries see what was hidden, to explain why a package is missing
        self._base.get_rpm_package_sack().clear_user_excludes()
        if missing:
            lines = [
                self._why_hidden(spec, repo) if spec.text in hidden else self._why_missing(spec, repo, names, few=few)
                for spec, repo in missing
            ]
            if not hidden.issuperset(spec.text for spec, _ in missing):
                raise self._not_found(lines)
            matching = {nevra for spec, repo in missing for nevra in self._matching(spec.text, repo)}
            raise self._not_found(lines, self._way_out(matching) or "drop it from packages or from the excludes")
        raise self._conflict("\n".join(solver), others, jobs)

    def _check_nothing_is_removed(self, transaction: Any) -> None:
        """Raise SolveError if the transaction removes or replaces an installed package."""
        lines = []
        leaving = (
            self._dnf.transaction.TransactionItemAction_REPLACED,
            self._dnf.transaction.TransactionItemAction_REMOVE,
        )
        for item in transaction.get_transaction_packages():
            if item.get_action() in leaving:
                by = sorted(package.get_nevra() for package in item.get_replaced_by())
                change = f"replaced by {', '.join(by)}" if by else "removed"
                lines.append(f"{item.get_package().get_nevra()} would be {change}")
        if lines:
            raise SolveError(
                f"the packages would change the base: {sorted(lines)[0]}",
                hint="drop what obsoletes a package of the base, or compose the base with it",
                details=sorted(lines) if len(lines) > 1 else (),
            )

    def _not_found(self, lines: list[str], way_out: str | None = None) -> SolveError:
        """lines: the reason for each missing package."""
        enabled = ", ".join(section.id for section in self._repositories.sections)
        return SolveError.of(
            lines,
            f"{len(lines)} of the requested packages cannot be found",
            hint=way_out or f"check the spelling, and that the package's repository is enabled (enabled: {enabled})",
        )

    def _why_hidden(self, spec: PackageSpec, repo: str | None) -> str:
        for nevra in sorted(self._matching(spec.text, repo)):
            if by := self._hidden_by(nevra):
                return f"{spec.place}: {nevra} {by}"
        return f"{spec.place}: {spec.text!r} is filtered out by excludepkgs= or includepkgs= of a .repo file"

    def _hidden_by(self, nevra: str) -> str | None:
        """What hides a package, as a predicate of the package; None if it is not the compose's doing."""
        if by := self._excluded.get(name_of(nevra)):
            return f"is filtered out by exclude-packages ({by})"
        if nevra in self._locked_out and self._request.lock is not None:
            return f"is not locked in {self._request.lock.place}"
        if nevra in self._other_builds:
            return "is a different build than the one in the base"
        return None

    def _way_out(self, nevras: set[str]) -> str | None:
        """A hint if the lockfile or the base hides some of the packages, else None."""
        if nevras & self._other_builds:
            return "packages of the base cannot be replaced; if the repositories have moved on, compose the base again first"
        names = {name_of(nevra) for nevra in nevras & self._locked_out} - self._excluded.keys()
        return locked.way_out(self._request.lock, names) if names and self._request.lock is not None else None

    def _why_missing(self, spec: PackageSpec, repo: str | None, names: set[str], *, few: bool) -> str:
        """names: of all packages. few: look for names that resemble it, which takes 0.3 s among 60,000."""
        where = f"in repository {repo!r}" if repo else "in any enabled repository"
        fault = f"{spec.place}: there is no package {spec.text!r} {where}"
        if repo and (elsewhere := sorted(self._matching(spec.text, None))):
            return f"{fault}; another repository has {elsewhere[-1]}"
        name = _name_in(spec.text, names)
        if name != spec.text and (builds := sorted(self._matching(name, repo))):
            return f"{fault}, only {', '.join(builds)}"
        if few and (close := nearest(spec.text, names)):
            return f"{fault}; did you mean {' or '.join(close)}?"
        return fault

    def _conflict(self, problem: str, others: list[str], jobs: list[tuple[PackageSpec, str | None]]) -> SolveError:
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
                # of a rich dependency, the mentioned packages whose names are in it
                query.filter_name(re.findall(r"[^\s()]+", dependency))
            return frozenset(package.get_nevra() for package in query) & subjects

        def hidden(nevra: str) -> str:
            return self._hidden_by(nevra) or "is filtered out by its .repo file"

        lines = explain(problem, requested=requested, providers=providers, hidden=hidden)
        entries = sorted({entry for nevra in requested for entry in requested[nevra] if entry in lines})
        return SolveError(
            f"the packages cannot be installed together ({entries[0]})"
            if len(entries) == 1
            else "the packages cannot be installed together",
            hint=self._way_out(subjects)
            or "enable the repository that has the missing package, or drop one of the conflicting packages",
            details=(*lines, *others),
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
            query = self._query_for(spec.text, repo)
            for package in query:
                specs.setdefault(package.get_nevra(), set()).add(spec.text)
            query.filter_priority()
            query.filter_latest_evr()
            for package in query:
                newest[package.get_name(), package.get_arch()] = (package.get_nevra(), spec.place)
        packages = []
        for item in _inbound(transaction):
            package = item.get_package()
            reason = reasons.get(item.get_reason(), Reason.DEPENDENCY)
            satisfied: set[str] = set()
            if reason is Reason.REQUESTED:
                satisfied |= specs.get(package.get_nevra(), set())
                satisfied |= {text for text, names in by_group.items() if package.get_name() in names}
            resolved = self._resolved(package, reason, satisfied, local)
            packages.append(resolved)
            best, place = newest.get((package.get_name(), package.get_arch()), (package.get_nevra(), ""))
            if satisfied and best != package.get_nevra():
                self._reporter.warn(f"{place}: {best} cannot be installed; using {package.get_nevra()}")
        return tuple(sorted(packages, key=lambda package: package.nevra))

    def _resolved(self, package: Any, reason: Reason, specs: set[str], local: dict[str, LocalRpm]) -> ResolvedPackage:
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
            specs=tuple(sorted(specs if given is None else {*specs, os.path.basename(given.path)})),
            base=package.get_baseurl(),
        )


def _name_in(spec: str, names: set[str]) -> str:
    """The name in a spec: "foo" of "foo >= 2"; and of "foo-2", "foo-1:2-3.x86_64" and "foo.x86_64" if that is one of names."""
    name = re.split(r"[<>=\s]", spec, maxsplit=1)[0]
    for build in re.finditer(r"-(?:[0-9]+:)?[0-9]|\.[a-z0-9_]+$", name):
        if name[: build.start()] in names:
            return name[: build.start()]
    return name


def _inbound(transaction: Any) -> list[Any]:
    """The items to install; for an installed package, a transaction may only change its reason."""
    return [item for item in transaction.get_transaction_packages() if not item.get_package().is_installed()]
