"""Packages on top of a composed tree: solved against what is in it, fetched, checked, and put into a directory.

DIR/NAME.rpm                      each package
DIR/extensions.json               the extensions that are for this architecture, names of packages with their builds
DIR/.rpm-ostree-state-chksum      SHA512 of what all of that was made of: the same again is no change
DIR/.compose-rpms                 names of the RPMs, so that those are removed that are not part any more
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
from compose.cachedir import CacheDir
from compose.errors import AssembleError, PackageError, RepositoryError, SolveError, TreefileError, UsageError
from compose.events import Reporter
from compose.extensions import Extensions, Kind, on_base, parse_extensions
from compose.fetch.fetcher import fetch
from compose.fetch.rpmfile import RpmFile
from compose.installed import extract_database
from compose.lock.model import ArchLock, resolution_of
from compose.ostree.repo import Repo
from compose.pipeline.inspect import commit_of
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
# what is a pipe after all must not be waited for
_READ = os.O_RDONLY | os.O_NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What was solved before. lock: the packages. base: NEVRA of each package that they were solved on top of. repos: ids of
    the repositories. place: for messages."""

    lock: ArchLock
    base: tuple[str, ...]
    repos: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """packages: of all extensions, sorted. changed: False when all of it was there already."""

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
    """Bring the packages of a file of extensions into a directory, made when absent.

    base: the commit below them, of options.repo; the treefile's ref when None. rootfs: a root in place of it. locked: take
    these, for which no metadata is looked at. Raises a ComposeError; then the directory holds what it did, or its state file
    is gone.
    """
    if (rootfs is None) == (options.repo is None):
        raise UsageError("give --repo, which has the tree that the extensions are for, or --rootfs, not both")
    if rootfs is not None and base is not None:
        raise UsageError("--base-rev names a commit of --repo, and --rootfs is none")
    for path in options.result_files:
        fs.check_place(path)
    loaded = load(options, reporter)
    asked = read_extensions(extensions, reporter)
    with CacheDir(options.cachedir).shared(reporter) as cache, cache.scratch() as work:
        root = os.path.join(work, "base")
        database = os.path.join(root, DATABASE_PATH)
        with fs.storage_errors(database):
            os.makedirs(database)
        if rootfs is not None:
            _copy_database(rootfs, database)
        else:
            _extract_database(options, loaded, base, database)
        place = rootfs or options.repo or ""
        installed = _installed(database, place, reporter)
        chosen = on_base(asked, loaded.treefile.basearch, newest(installed))
        network = RepoNetwork(cachedir=cache.path, cache_only=options.cache_only, proxy=options.proxy)
        request = request_of_extensions(options, loaded, chosen)
        if locked is None:
            resolution = solve_extensions(request, chosen, root, network, reporter)
        else:
            _check_base(installed, place, locked)
            request = replace(request, access=replace(request.access, repos=locked.repos))
            resolution = resolution_of(locked.lock, describe(request, network, reporter))
        result = Fetched(packages=resolution.packages, changed=True)
        state = _state(resolution, chosen)
        if _is_there(output, state, resolution):
            return replace(result, changed=False)
        files = fetch(resolution, request.access, network, reporter, jobs=options.jobs)
        if locked is not None:
            check_keys(locked.lock, files)
        _write(output, files, chosen, state)
    touch(options)
    return result


def read_extensions(path: str, reporter: Reporter) -> Extensions:
    """A file of extensions. Raises TreefileError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise TreefileError(f"cannot read the extensions {path}: {error.strerror}") from error
    found = parse_extensions(data, path)
    for warning in found.warnings:
        reporter.warn(warning)
    return found


def newest(packages: Iterable[Nevra]) -> dict[str, str]:
    """[EPOCH:]VERSION-RELEASE by name: of one that is there several times (kernels) the newest build."""
    return {each.name: each.evr for each in sorted(packages, key=cmp_to_key(compare_evr))}


def request_of_extensions(options: ComposeOptions, loaded: LoadedTreefile, extensions: Extensions) -> SolveRequest:
    """What is to fit on the base, of the treefile's repositories and those of the extensions."""
    access = repo_access(options, loaded, with_lockfile=False)
    if more := extensions.all_repos:
        enabled = access.repos if access.repos is not None else [section.id for section in enabled_repos(access)]
        access = replace(access, repos=tuple(dict.fromkeys((*enabled, *more))))
    # neither excludes nor recommends of the treefile: who installs an extension does not have them either
    return SolveRequest(packages=extensions.packages(Kind.OS_EXTENSION), access=access)


def solve_extensions(
    request: SolveRequest, extensions: Extensions, root: str, network: RepoNetwork, reporter: Reporter
) -> Resolution:
    """The packages of extensions, those for development too. root: as of solve_beside(). Raises as that does, and SolveError
    for what the base has already."""
    resolution = solve_beside(request, extensions.packages(Kind.DEVELOPMENT), root, network, reporter)
    _check_brought(request.packages, resolution)
    return resolution


def _extract_database(options: ComposeOptions, loaded: LoadedTreefile, base: str | None, directory: str) -> None:
    revision = base or loaded.treefile.ref
    if revision is None:
        raise UsageError(f"{options.treefile} has no ref", hint="name the commit with --base-rev")
    assert options.repo is not None
    with Repo.open(options.repo) as repo:
        if not extract_database(repo, commit_of(repo, revision), directory):
            raise RepositoryError(
                f"{repo.path}: {revision} has no {DATABASE_PATH}/{_DATABASE}", hint="it must be a tree made of packages"
            )


def _copy_database(rootfs: str, directory: str) -> None:
    try:
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"--rootfs={rootfs}: {error.strerror}") from error
    try:
        for place in (DATABASE_PATH, SYSIMAGE, "var/lib/rpm"):
            for name in (_DATABASE, f"{_DATABASE}-wal"):
                with suppress(FileNotFoundError, NotADirectoryError), fs.storage_errors(f"{rootfs}/{place}/{name}"):
                    _copy(syscalls.open_in_root(root, f"{place}/{name}", _READ), os.path.join(directory, name))
            if os.path.exists(os.path.join(directory, _DATABASE)):
                return
    finally:
        os.close(root)
    raise UsageError(f"--rootfs={rootfs}: has no rpm database", hint="give the root directory of an installed system")


def _copy(source: int, path: str) -> None:
    """What the regular file open at `source`, which is closed, holds; nothing of what is none."""
    with open(source, "rb"):
        if stat.S_ISREG(os.fstat(source).st_mode):
            with open(path, "wb") as copy:
                fs.clone_or_copy(source, copy.fileno())


def _installed(database: str, place: str, reporter: Reporter) -> tuple[Nevra, ...]:
    try:
        return tuple(each.nevra for each in read_packages(database, reporter))
    except (AssembleError, PackageError) as error:
        raise RepositoryError(f"{place}: the rpm database cannot be read: {error.message}") from error


def _check_base(installed: Iterable[Nevra], place: str, locked: Locked) -> None:
    """What was solved on top of other packages may not fit."""
    now, before = {*map(str, installed)}, {*locked.base}
    if now != before:
        details = [f"in the tree, not in the bundle: {each}" for each in sorted(now - before)]
        details += [f"in the bundle, not in the tree: {each}" for each in sorted(before - now)]
        raise SolveError(
            f"{place}: the tree is not of the packages that the extensions of {locked.place} are for",
            hint=f"compose it of the bundle first: compose tree --bundle={locked.place}; or name its commit with --base-rev",
            details=details[:_SHOWN] + ([f"and {len(details) - _SHOWN} more"] if len(details) > _SHOWN else []),
        )


def _check_brought(specs: Sequence[PackageSpec], resolution: Resolution) -> None:
    brought = {text for each in resolution.packages for text in each.specs}
    lines = [f"{spec.place}: the base has what {spec.text} asks for" for spec in specs if spec.text not in brought]
    if lines:
        raise SolveError(
            lines[0] if len(lines) == 1 else f"the base has what {len(lines)} packages of the extensions ask for",
            hint="leave out what clients have anyway",
            details=lines if len(lines) > 1 else (),
        )


def _state(resolution: Resolution, extensions: Extensions) -> str:
    rows = [f"{each.nevra} {':'.join(each.checksum)}\n" for each in resolution.packages]
    used = {each.repo for each in resolution.packages}
    # a signature that was not asked for then may be now
    rows += [f"{each.id} {each.gpgcheck} {each.gpgkeys}\n" for each in resolution.repos if each.id in used]
    return hashlib.sha512("".join((*rows, extensions.json())).encode()).hexdigest()


def _is_there(output: str, state: str, resolution: Resolution) -> bool:
    return (
        _text(output, _STATE) == state
        and _text(output, _JSON) != ""
        and all(_size(output, _name_of(each)) == each.download_size for each in resolution.packages)
    )


def _size(output: str, name: str) -> int:
    """Bytes of a regular file, -1 of what is none."""
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
        # until all is there again nobody may take it for whole
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
    """Not what the repository calls it: two may call theirs the same."""
    nevra = package.nevra
    name = f"{nevra.name}-{nevra.version}-{nevra.release}.{nevra.arch}.rpm"
    if not _is_name(name):
        raise PackageError(f"{nevra} of repository {package.repo!r} makes no file name")
    return name


def _is_name(text: str) -> bool:
    return text.endswith(".rpm") and not text.startswith(".") and "/" not in text and "\0" not in text


def _lines(names: set[str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode()
