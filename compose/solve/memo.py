"""Remembers the solver's answers: the same question about the same repositories has the same answer.

    CACHEDIR/solved/KEY     a sealed file for each question, JSON; KEY: digest of the question

A package is stored as a list of its fields' values: with the fields' names it takes three times as long to read.

An answer holds while its inputs are unchanged: every library that took part, and each repository's metadata, both in the
cachedir and at its origin. If the origin is a directory (file://), it can be checked without libdnf5; with --cache-only it need
not be checked. Metadata that comes over the network or must be signed (repo_gpgcheck) has to be refreshed and verified by
libdnf5: see dnf.resolve().
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import compose
from compose.errors import StorageError
from compose.rpm.nevra import Nevra
from compose.rpm.repofile import RepoSection
from compose.rpm.repos import RepoNetwork, variables
from compose.sealed import forget_oldest, read_sealed, write_sealed
from compose.solve.request import SolveRequest
from compose.solve.resolution import Reason, RepoSnapshot, Resolution, ResolvedPackage, advisories_of

if TYPE_CHECKING:
    from compose.solve.links import Link

# To be incremented whenever the same question may have a different answer than before.
_KIND = b"compose solved 6\n"
_KEPT = 50
_LINKER = "/etc/ld.so.cache"
REPOMD = "repodata/repomd.xml"
LOADING = "Loading repositories"
"""Name of the task that loads metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The metadata of one repository that an answer is based on.

    cached: its directory below metadata_dir. origin: the local directory that it comes from, None if it is not local. signed:
    whether its signature must be verified each time. repomd: sha256 of repomd.xml, which has the digests of the other files; ""
    if it is missing, which always counts as changed. files: (name, size) of each file in cached/repodata.
    """

    cached: str
    origin: str | None
    signed: bool
    repomd: str
    files: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of the solver, and its inputs. libraries: (path, status) of each file mapped into the solver's process.
    warnings: those given while solving."""

    resolution: Resolution
    metadata: tuple[Metadata, ...]
    libraries: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()


def key_of(question: str, request: SolveRequest, sections: Iterable[RepoSection]) -> str:
    """Digest of a question. question: "solve" or "describe". sections: those of the enabled repositories.

    Raises TreefileError for a variable file that cannot be read.
    """
    inputs = {
        "compose": compose.__version__,
        "what": question,
        "request": dataclasses.asdict(request),
        # with the .repo file's path, to which options may be relative
        "repositories": [(os.path.abspath(section.path), dataclasses.asdict(section)) for section in sections],
        "variables": variables(request.access),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=sorted).encode()).hexdigest()


def is_worth_keeping(request: SolveRequest, network: RepoNetwork) -> bool:
    """Whether the question may be asked again: not about .repo files that were unpacked into a scratch directory, as verify and
    bundles do, because their paths are part of it."""
    scratch = os.path.abspath(network.scratch_dir)
    return all(os.path.commonpath((scratch, os.path.abspath(each))) != scratch for each in request.access.repo_dirs)


def recall(key: str, network: RepoNetwork) -> Answer | None:
    """The remembered answer to a question, valid only if holds(); None if there is none."""
    path = os.path.join(network.solved_dir, key)
    data = read_sealed(path, _KIND)
    if data is None:
        return None
    try:
        answer = _answer(json.loads(bytes(data)))
    except (KeyError, TypeError, ValueError):
        # written by a version with other fields
        return None
    if not all(status and status == status_of(library) for library, status in answer.libraries):
        return None
    # forget_oldest() goes by this time
    with suppress(OSError):
        os.utime(path)
    return answer


def holds(answer: Answer, network: RepoNetwork) -> bool:
    """Whether the metadata that the answer is based on is unchanged; False if only libdnf5 can tell."""
    if not all(_is_unchanged(metadata, network) for metadata in answer.metadata):
        return False
    for metadata in answer.metadata:
        # as libdnf5 does when it loads metadata
        with suppress(OSError):
            os.utime(os.path.join(network.metadata_dir, metadata.cached, REPOMD))
    return True


def keep(key: str, answer: Answer, network: RepoNetwork) -> None:
    """Remember an answer. Failure to write is ignored: the question is then solved again next time."""
    row = dataclasses.asdict(answer)
    row["resolution"]["packages"] = [dataclasses.astuple(package) for package in answer.resolution.packages]
    with suppress(OSError, StorageError):
        os.makedirs(network.solved_dir, mode=0o700, exist_ok=True)
        write_sealed(os.path.join(network.solved_dir, key), _KIND, json.dumps(row).encode())
        forget_oldest(network.solved_dir, _KEPT)


def libraries() -> tuple[tuple[str, str], ...]:
    """Path and status of each file mapped into this process (libdnf5, libsolv, librpm and their dependencies), and of the
    linker's cache."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in file if "/" in line}
    if os.path.exists(_LINKER):
        paths.add(_LINKER)
    return tuple((path, status_of(path)) for path in sorted(paths))


def digest_of(path: str) -> str:
    """sha256 of a file, "" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def status_of(path: str) -> str:
    """Size and times of a file; "" if it is missing, which always counts as changed."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _is_unchanged(metadata: Metadata, network: RepoNetwork) -> bool:
    cached = os.path.join(network.metadata_dir, metadata.cached)
    directories = [cached]
    if metadata.signed or not metadata.repomd:
        return False
    if not network.cache_only:
        if metadata.origin is None:
            return False
        directories.append(metadata.origin)
    # the cached files must be complete, as the download looks up packages in them
    return all(digest_of(os.path.join(directory, REPOMD)) == metadata.repomd for directory in directories) and (
        metadata.files == tuple(sizes(os.path.join(cached, "repodata")))
    )


def sizes(directory: str) -> Iterator[tuple[str, int]]:
    """Name and size of each file in a directory, sorted by name."""
    try:
        for name in sorted(os.listdir(directory)):
            yield name, os.lstat(os.path.join(directory, name)).st_size
    except OSError:
        return


def _answer(row: dict[str, Any]) -> Answer:
    found = row["resolution"]
    return Answer(
        resolution=Resolution(
            packages=tuple(map(_package, found["packages"])),
            repos=tuple(RepoSnapshot(**each | {"gpgkeys": tuple(each["gpgkeys"])}) for each in found["repos"]),
            advisories=None if found["advisories"] is None else advisories_of(found["advisories"]),
            fixes=advisories_of(found["fixes"]),
            links=tuple(map(_link, found["links"])),
            lacking=tuple(map(tuple, found["lacking"])),
            directories=tuple((name, directory) for name, directory in found["directories"]),
            locked=found["locked"],
        ),
        metadata=tuple(
            Metadata(**each | {"files": tuple((name, size) for name, size in each["files"])})
            for each in row["metadata"]
        ),
        libraries=tuple((path, status) for path, status in row["libraries"]),
        warnings=tuple(row["warnings"]),
    )


def _package(row: list[Any]) -> ResolvedPackage:
    nevra, repo, location, checksum, download_size, install_size, source_rpm, reason, specs, base = row
    name, epoch, version, release, arch = nevra
    algorithm, digest = checksum
    return ResolvedPackage(
        nevra=Nevra(name=name, epoch=epoch, version=version, release=release, arch=arch),
        repo=repo,
        location=location,
        checksum=(algorithm, digest),
        download_size=download_size,
        install_size=install_size,
        source_rpm=source_rpm,
        reason=Reason(reason),
        specs=tuple(specs),
        base=base,
    )


def _link(row: dict[str, Any]) -> Link:
    from compose.solve.links import Link, Need

    return Link(
        source=Nevra(**row["source"]),
        target=Nevra(**row["target"]),
        need=Need(row["need"]),
        dependency=row["dependency"],
    )
