"""Why a package is in a compose or not, according to the solver; only metadata is downloaded. And why one is in a commit,
according to the commit's rpm database and its record."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from compose import fs, records
from compose.cachedir import CacheDir
from compose.errors import SolveError, UsageError
from compose.events import Reporter
from compose.installed import extract_root
from compose.ostree.repo import Repo
from compose.pipeline import locking
from compose.pipeline.options import ComposeOptions
from compose.pipeline.requests import load, local_rpms, repo_access, request_of
from compose.pipeline.sources import TREEFILE, options_of
from compose.rpm.compare import compare_evr
from compose.rpm.nevra import Nevra
from compose.rpm.repos import RepoNetwork
from compose.rpm.specs import PackageSpec
from compose.solve.chains import Chain, Root, chains_to
from compose.solve.installed import installed_links
from compose.solve.links import Link
from compose.solve.request import SolveRequest
from compose.solve.resolution import COMMAND_LINE, Reason, RepoSnapshot, Resolution, ResolvedPackage
from compose.solve.solver import solve
from compose.treefile.load import load_treefile
from compose.treefile.origin import origins

_HYPOTHESIS = "if it were asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A package that is present. chains: for each line of the treefile that leads to it the best chain, the best of all
    first. In a commit, packages that only rpm-files bring have none."""

    package: ResolvedPackage
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Why a package is absent.

    reason: one sentence. details: the solver's chain. hint: what to do about it. instead: the build of that name that was
    taken. wanted: weak dependencies on it. brings: the packages that it would add, itself included; empty when it cannot be
    installed.
    """

    reason: str
    details: tuple[str, ...] = ()
    hint: str | None = None
    instead: ResolvedPackage | None = None
    wanted: tuple[Link, ...] = ()
    brings: tuple[ResolvedPackage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    network: RepoNetwork
    request: SolveRequest


def why(options: ComposeOptions, subject: str, reporter: Reporter) -> tuple[Presence, ...]:
    """The lines of the treefile that lead to each build of a package (NAME, NAME.ARCH, NAME-VERSION, NEVRA).

    Raises UsageError when the compose has no such package, and what an unsolvable compose raises.
    """
    with _question(options, reporter) as question:
        resolution = solve(question.request, question.network, reporter)
    found = [each for each in resolution.packages if _matches(subject, each.nevra)]
    if not found:
        raise UsageError(
            f"{subject} is not in the compose of {options.treefile}",
            hint=f"see why: compose why-not {subject} {options.treefile}",
        )
    roots = _roots(question.request, resolution)
    return tuple(Presence(package=each, chains=chains_to(each.nevra, roots, resolution.links)) for each in found)


def why_in_commit(
    repository: str, revision: str, subject: str, cachedir: str, reporter: Reporter
) -> tuple[Presence, ...]:
    """The same for a package in a commit, without package repositories. Places are relative to the common directory of the
    treefile's files.

    Raises UsageError when the commit has no such package, RepositoryError when it has no record or no rpm database.
    """
    with (
        Repo.open(repository) as repo,
        CacheDir(cachedir).shared(reporter) as cache,
        cache.scratch() as work,
    ):
        commit = repo.commit_of(revision)
        sources, root = (os.path.join(work, name) for name in ("sources", "root"))
        with fs.storage_errors(work):
            os.mkdir(sources, 0o700)
        index = records.unpack_sources(repo, commit, sources)
        options, _ = options_of(
            index, f"the record of {commit}", sources, ComposeOptions(treefile="", cachedir=cache.path)
        )
        loaded = load_treefile(options.treefile, basearch=options.basearch or "")
        lock = locking.read(options, loaded.treefile, reporter)
        extract_root(repo, commit, root)
        packages, links = installed_links(root, reporter)
    found = [nevra for nevra in packages if _matches(subject, nevra)]
    if not found:
        raise UsageError(f"{revision} has no package {subject}", hint=f"see: compose why-not {subject} TREEFILE")
    locked = [row.package for row in lock.own.packages] if lock is not None and lock.own is not None else []
    known = {package.nevra: package for package in locked}
    request = request_of(loaded.treefile, repo_access(options, loaded, with_lockfile=True))
    roots = [
        replace(each, place=each.place.removeprefix(os.path.join(sources, TREEFILE, "")))
        for each in _roots(request, Resolution(packages=tuple(locked), repos=()))
    ]
    return tuple(
        Presence(package=known.get(nevra) or _without_repository(nevra), chains=chains_to(nevra, roots, links))
        for nevra in found
    )


def _without_repository(nevra: Nevra) -> ResolvedPackage:
    return ResolvedPackage(
        nevra=nevra,
        repo=COMMAND_LINE,
        location="",
        checksum=("", ""),
        download_size=0,
        install_size=0,
        source_rpm="",
        reason=Reason.REQUESTED,
    )


def why_not(options: ComposeOptions, subject: str, reporter: Reporter) -> Absence:
    """Why the compose has no such package, found by solving a compose that asks for it.

    Raises UsageError when the compose has one, and what an unsolvable compose raises.
    """
    with _question(options, reporter) as question:
        return _absence(question, options, subject, reporter)


def _absence(question: _Question, options: ComposeOptions, subject: str, reporter: Reporter) -> Absence:
    request = question.request
    now = solve(request, question.network, reporter)
    known = {each.nevra: each for each in now.packages}
    if any(_matches(subject, nevra) for nevra in known):
        raise _present(subject, options)
    asking = replace(request, packages=(*request.packages, PackageSpec(text=subject, place=_HYPOTHESIS)))
    try:
        then = solve(asking, question.network, reporter)
    except SolveError as error:
        return Absence(reason=error.message.removeprefix(f"{_HYPOTHESIS}: "), details=error.details, hint=error.hint)
    asked = [each for each in then.packages if subject in each.specs]
    if all(each.nevra in known for each in asked):
        raise _present(subject, options)
    builds = {each.nevra: each for each in asked if each.nevra not in known}
    wanted = tuple(link for link in then.links if link.weak and link.source in known and link.target in builds)
    names = {(nevra.name, nevra.arch): each for nevra, each in builds.items()}
    instead = next((each for each in now.packages if (each.nevra.name, each.nevra.arch) in names), None)
    if instead is None:
        reason = _not_asked(wanted, request, options)
    else:
        reason = _not_taken(names[instead.nevra.name, instead.nevra.arch], instead, now.repos)
    return Absence(
        reason=reason,
        instead=instead,
        wanted=wanted,
        brings=tuple(each for each in then.packages if each.nevra not in known),
    )


@contextmanager
def _question(options: ComposeOptions, reporter: Reporter) -> Iterator[_Question]:
    loaded = load(options, reporter)
    treefile = loaded.treefile
    read = locking.read(options, treefile, reporter)
    lock = None if read is None else read.request
    if read is not None and read.own is not None:
        # the lock has the packages but not their dependencies, so solve with exactly these
        lock = replace(locking.keeping(read.own, (), read.path), strict=True)
    access = repo_access(options, loaded, with_lockfile=lock is not None)
    with CacheDir(options.cachedir).shared(reporter) as cache:
        network = RepoNetwork(cachedir=cache.path, cache_only=options.cache_only, proxy=options.proxy)
        rpm_files = local_rpms(treefile, access, network, reporter)
        yield _Question(
            network=network,
            request=request_of(treefile, access, rpm_files=rpm_files, lock=lock, links=True),
        )


def _roots(request: SolveRequest, resolution: Resolution) -> tuple[Root, ...]:
    places = {spec.text: spec.place for spec in _specs(request)}
    local = {each.path: each.place for each in request.rpm_files}
    return tuple(
        Root(place=places.get(text) or local.get(package.location, ""), text=text, package=package.nevra)
        for package in resolution.packages
        for text in package.specs
    )


def _specs(request: SolveRequest) -> Iterator[PackageSpec]:
    yield from request.packages
    for row in request.repo_packages:
        yield from row.packages


def _matches(subject: str, nevra: Nevra) -> bool:
    return subject in (
        nevra.name,
        f"{nevra.name}.{nevra.arch}",
        f"{nevra.name}-{nevra.version}",
        *(f"{nevra.name}-{evr}{arch}" for evr in _evrs(nevra) for arch in ("", f".{nevra.arch}")),
    )


def _evrs(nevra: Nevra) -> tuple[str, str]:
    """VERSION-RELEASE without epoch, as rpm -qa prints it, and with one, as in lockfiles."""
    build = f"{nevra.version}-{nevra.release}"
    return build, f"{nevra.epoch}:{build}"


def _present(subject: str, options: ComposeOptions) -> UsageError:
    return UsageError(
        f"{subject} is in the compose of {options.treefile}",
        hint=f"see why: compose why {subject} {options.treefile}",
    )


def _not_taken(asked: ResolvedPackage, taken: ResolvedPackage, repos: Iterable[RepoSnapshot]) -> str:
    fault = f"{taken.nevra} of repository {taken.repo!r} is taken"
    ranks = {repo.id: repo.priority for repo in repos}
    mine, other = (ranks.get(each.repo) for each in (asked, taken))
    if mine is not None and other is not None and mine > other:
        return f"{fault}, whose priority={other} goes before priority={mine} of {asked.repo!r}"
    if compare_evr(asked.nevra, taken.nevra) < 0:
        return f"{fault}, which is newer"
    return f"{fault}, and nothing asks for {asked.nevra}"


def _not_asked(wanted: tuple[Link, ...], request: SolveRequest, options: ComposeOptions) -> str:
    if not wanted or request.recommends:
        return "nothing asks for it: no line of the treefile, and nothing that a package of the compose requires"
    basearch = request.access.basearch
    place = next(each.place for each in origins(options.treefile, basearch=basearch) if each.path == "recommends")
    return f"only weak dependencies ask for it, and they are left out (recommends: false at {place})"
