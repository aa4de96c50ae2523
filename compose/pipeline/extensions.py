"""Packages on top of a composed tree: solved against its packages, fetched, verified, and put into a directory.

DIR/NAME.rpm                      each package
DIR/extensions.json               the extensions for this architecture, with the builds of their packages
DIR/.rpm-ostree-state-chksum      SHA-512 of the inputs; when it matches, nothing has changed
DIR/.compose-rpms                 names of the RPMs, so that obsolete ones are removed
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cmp_to_key

from compose import fs, syscalls
from compose.architecture import BASE_ARCHES
from compose.cachedir import CacheDir
from compose.errors import AssembleError, PackageError, RepositoryError, SolveError, TreefileError, UsageError
from compose.events import Reporter
from compose.extensions import Extensions, Kind, on_base, parse_extensions
from compose.fetch.fetcher import fetch
from compose.fetch.rpmfile import RpmFile
from compose.installed import extract_root
from compose.lock.model import ArchLock, resolution_of
from compose.ostree.repo import Repo
from compose.pipeline.locking import check_keys
from compose.pipeline.options import ComposeOptions
from compose.pipeline.requests import load, repo_access
from compose.pipeline.results import touch
from compose.postprocess.rpmdb import SYSIMAGE
from compose.rpm.compare import compare_evr
from compose.rpm.database import DATABASE_PATH, read_packages
from compose.rpm.nevra import Nevra
from compose.rpm.repos import RepoNetwork, enabled_repos
from compose.rpm.specs import PackageSpec
from compose.solve.request import SolveRequest
from compose.solve.resolution import Resolution, ResolvedPackage
from compose.solve.solver import describe, solve_beside
from compose.treefile.model import LoadedTreefile

_STATE, _JSON, _LIST = ".rpm-ostree-state-chksum", "extensions.json", ".compose-rpms"
_DATABASE = "rpmdb.sqlite"
_SHOWN = 20
# opening a FIFO must not block
_READ = os.O_RDONLY | os.O_NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """Extensions that are already solved.

    lock: their packages. base: NEVRAs of the packages that they were solved on top of. repos: ids of the repositories.
    place: where this comes from, for messages.
    """

    lock: ArchLock
    base: tuple[str, ...]
    repos: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Fetched extensions. packages: of all extensions, sorted. changed: False when the directory was up to date."""

    packages: tuple[ResolvedPackage, ...]
    changed: bool


def fetch_extensions(
    options: ComposeOptions,
    extensions: str,
    output: str,
    *,
    base: str | None,
    rootfs: str | None,
    reporter: Reporter,
    locked: Locked | None = None,
) -> Fetched:
    """Fetch the packages of an extensions file into the directory `output`, which is created if needed.

    base: the commit in options.repo that they go on top of; None for the treefile's ref. rootfs: a root directory instead of
    a commit. locked: packages to take without reading repository metadata. Raises a ComposeError; the directory is then
    unchanged, or has no state file.
    """
    if (rootfs is None) == (options.repo is None):
        raise UsageError("give either --repo, with the tree that the extensions are for, or --rootfs")
    if rootfs is not None and base is not None:
        raise UsageError("--base-rev names a commit of --repo and cannot be combined with --rootfs")
    for path in options.result_files:
        fs.check_place(path)
    fs.check_directory(output)
    loaded = load(options, reporter)
    parsed = read_extensions(extensions, reporter)
    with CacheDir(options.cachedir).shared(reporter) as cache, cache.scratch() as work:
        root = os.path.join(work, "base")
        database = _copy(rootfs, root) if rootfs is not None else _extract(options, loaded, base, root)
        place = rootfs or options.repo or ""
        installed = _installed(database, place, reporter)
        chosen = on_base(parsed, loaded.treefile.basearch, newest(installed))
        network = RepoNetwork(cachedir=cache.path, cache_only=options.cache_only, proxy=options.proxy)
        request = request_of_extensions(options, loaded, chosen)
        if locked is None:
            check_architecture(installed, place, loaded.treefile.basearch)
            resolution = solve_extensions(request, chosen, root, network, reporter)
        else:
            _check_base(installed, place, locked)
            request = replace(request, access=replace(request.access, repos=locked.repos))
            resolution = resolution_of(locked.lock, describe(request, network, reporter))
        result = Fetched(packages=resolution.packages, changed=True)
        state = _state(resolution, chosen)
        if _is_current(output, state, resolution):
            return replace(result, changed=False)
        files = fetch(resolution, request.access, network, reporter, jobs=options.jobs)
        if locked is not None:
            check_keys(locked.lock, files)
        _write(output, files, chosen, state)
    touch(options)
    return result


def read_extensions(path: str, reporter: Reporter) -> Extensions:
    """Read an extensions file. Raises TreefileError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise TreefileError(f"cannot read the extensions {path}: {error.strerror}") from error
    extensions = parse_extensions(data, path)
    for warning in extensions.warnings:
        reporter.warn(warning)
    return extensions


def newest(packages: Iterable[Nevra]) -> dict[str, str]:
    """[EPOCH:]VERSION-RELEASE by name; the newest build when a package is installed several times (kernels)."""
    return {each.name: each.evr for each in sorted(packages, key=cmp_to_key(compare_evr))}


def request_of_extensions(options: ComposeOptions, loaded: LoadedTreefile, extensions: Extensions) -> SolveRequest:
    """The request for extensions, from the treefile's repositories and those of the extensions."""
    access = repo_access(options, loaded, with_lockfile=False)
    if more := extensions.all_repos:
        enabled = access.repos if access.repos is not None else [section.id for section in enabled_repos(access)]
        access = replace(access, repos=tuple(dict.fromkeys((*enabled, *more))))
    # without excludes and recommends of the treefile: they do not apply on clients that install an extension
    return SolveRequest(packages=extensions.packages(Kind.OS_EXTENSION), access=access)


def solve_extensions(
    request: SolveRequest, extensions: Extensions, root: str, network: RepoNetwork, reporter: Reporter
) -> Resolution:
    """Solve the packages of extensions, development ones included. root: see solve_beside(). Raises as that does, and
    SolveError for packages that the base already has."""
    resolution = solve_beside(request, extensions.packages(Kind.DEVELOPMENT), root, network, reporter)
    _check_not_in_base(request.packages, resolution)
    return resolution


def _extract(options: ComposeOptions, loaded: LoadedTreefile, base: str | None, root: str) -> str:
    """See extract_root()."""
    revision = base or loaded.treefile.ref
    if revision is None:
        raise UsageError(f"{options.treefile} has no ref", hint="name the commit with --base-rev")
    assert options.repo is not None
    with Repo.open(options.repo) as repo:
        return extract_root(repo, repo.commit_of(revision), root)


def _copy(rootfs: str, root: str) -> str:
    """The same for a root directory, from wherever it has its rpm database."""
    database = os.path.join(root, DATABASE_PATH)
    with fs.storage_errors(database):
        os.makedirs(database)
    try:
        source = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"--rootfs={rootfs}: {error.strerror}") from error
    try:
        for place in (DATABASE_PATH, SYSIMAGE, "var/lib/rpm"):
            for name in (_DATABASE, f"{_DATABASE}-wal"):
                with suppress(FileNotFoundError, NotADirectoryError), fs.storage_errors(f"{rootfs}/{place}/{name}"):
                    _copy_file(syscalls.open_in_root(source, f"{place}/{name}", _READ), os.path.join(database, name))
            if os.path.exists(os.path.join(database, _DATABASE)):
                return database
    finally:
        os.close(source)
    raise UsageError(f"--rootfs={rootfs} has no rpm database", hint="give the root directory of an installed system")


def _copy_file(source: int, path: str) -> None:
    """Copy from the descriptor `source`, and close it. Does nothing unless it is a regular file."""
    with open(source, "rb"):
        if stat.S_ISREG(os.fstat(source).st_mode):
            with open(path, "wb") as copy:
                fs.clone_or_copy(source, copy.fileno())


def _installed(database: str, place: str, reporter: Reporter) -> tuple[Nevra, ...]:
    try:
        return tuple(each.nevra for each in read_packages(database, reporter))
    except (AssembleError, PackageError) as error:
        raise RepositoryError(f"{place}: the rpm database cannot be read: {error.message}") from error


def check_architecture(installed: Iterable[Nevra], place: str, basearch: str) -> None:
    """Raise UsageError for a base of another architecture: the solver would add a second system beside it."""
    arches = {each.arch for each in installed} - {"noarch"}
    others = sorted(arches & BASE_ARCHES)
    if others and basearch not in arches:
        raise UsageError(
            f"{place}: the tree is for {others[0]}, but extensions are wanted for {basearch}",
            hint=f"give --arch={others[0]}",
        )


def _check_base(installed: Iterable[Nevra], place: str, locked: Locked) -> None:
    """Raise SolveError when the base has other packages than those that were solved against."""
    now, before = {*map(str, installed)}, {*locked.base}
    if now != before:
        details = [f"in the tree, not in the bundle: {each}" for each in sorted(now - before)]
        details += [f"in the bundle, not in the tree: {each}" for each in sorted(before - now)]
        raise SolveError(
            f"{place}: the tree differs from the one that the extensions in {locked.place} were solved for",
            hint=f"compose the bundle first: compose tree --bundle={locked.place}; or name its commit with --base-rev",
            details=details[:_SHOWN] + ([f"and {len(details) - _SHOWN} more"] if len(details) > _SHOWN else []),
        )


def _check_not_in_base(specs: Sequence[PackageSpec], resolution: Resolution) -> None:
    added = {text for each in resolution.packages for text in each.specs}
    lines = [f"{spec.place}: the base already has {spec.text}" for spec in specs if spec.text not in added]
    if lines:
        raise SolveError.of(
            lines,
            f"the base already has {len(lines)} packages of the extensions",
            hint="leave out what clients have anyway",
        )


def _state(resolution: Resolution, extensions: Extensions) -> str:
    rows = [f"{each.nevra} {':'.join(each.checksum)}\n" for each in resolution.packages]
    used = {each.repo for each in resolution.packages}
    # changed signature settings need another verification
    rows += [f"{each.id} {each.gpgcheck} {each.gpgkeys}\n" for each in resolution.repos if each.id in used]
    return hashlib.sha512("".join((*rows, extensions.json())).encode()).hexdigest()


def _is_current(output: str, state: str, resolution: Resolution) -> bool:
    return (
        _text(output, _STATE) == state
        and _text(output, _JSON) != ""
        and all(_size(output, _name_of(each)) == each.download_size for each in resolution.packages)
    )


def _size(output: str, name: str) -> int:
    """Size of a regular file in bytes, -1 for anything else."""
    try:
        status = os.lstat(os.path.join(output, name))
    except (FileNotFoundError, NotADirectoryError):
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _text(output: str, name: str) -> str:
    path = os.path.join(output, name)
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return ""
    except OSError as error:
        raise fs.storage_error(path, error) from error


def _write(output: str, files: Sequence[RpmFile], extensions: Extensions, state: str) -> None:
    sources: dict[str, RpmFile] = {}
    for file in files:
        other = sources.setdefault(_name_of(file.package), file)
        if other is not file:
            raise PackageError(f"{other.package.nevra} and {file.package.nevra} would have the same file name")
    before = {name for name in _text(output, _LIST).splitlines() if _is_name(name)}
    with fs.storage_errors(output):
        os.makedirs(output, exist_ok=True)
        # marks the directory as incomplete until everything is there
        _remove(output, _STATE)
        fs.atomic_write(os.path.join(output, _LIST), _lines(before | {*sources}))
        for name, file in sources.items():
            fs.copy_file(file.path, os.path.join(output, name))
        for name in before - {*sources}:
            _remove(output, name)
        fs.atomic_write(os.path.join(output, _LIST), _lines({*sources}))
        fs.atomic_write(os.path.join(output, _JSON), extensions.json().encode())
        _sync(output)
        fs.atomic_write(os.path.join(output, _STATE), state.encode())


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)


def _remove(output: str, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(output, name))


def _name_of(package: ResolvedPackage) -> str:
    """File name of a package, from its NEVRA: names in different repositories may clash."""
    name = package.nevra.file_name
    if not _is_name(name):
        raise PackageError(f"{package.nevra} of repository {package.repo!r} cannot be used as a file name")
    return name


def _is_name(text: str) -> bool:
    return text.endswith(".rpm") and not text.startswith(".") and "/" not in text and "\0" not in text


def _lines(names: set[str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode()
