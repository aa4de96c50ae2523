"""Answers of the solver that are known from before: the same question to the same repositories has the same answer.

    CACHEDIR/solved/KEY     a sealed file for each question, JSON; KEY: digest of all that is asked

A package is a list of its values, in the order of its fields: with their names it takes three times as long to read.
An answer holds as long as what it was made of is there unchanged: every library that took part, and each repository's
metadata, as the cachedir has it and as it is where it comes from. That can be looked at without libdnf5 when it is a
directory (file://), and need not be with --cache-only. What comes over the network, and what is to have a signature
(repo_gpgcheck), is for libdnf5 to bring up to date and to check: see dnf.resolve().
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
from compose.solve.resolution import Reason, RepoSnapshot, Resolution, ResolvedPackage

if TYPE_CHECKING:
    from compose.solve.advisories import Advisory
    from compose.solve.links import Link

# To be raised whenever the same question could be answered otherwise than before.
_KIND = b"compose solved 4\n"
_KEPT = 50
_LINKER = "/etc/ld.so.cache"
REPOMD = "repodata/repomd.xml"
LOADING = "Loading repositories"
"""What whoever follows the progress is told while metadata is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Of one repository, as it was solved with.

    cached: its directory below metadata_dir. origin: the directory that it was taken from, None for what is not on this
    machine. signed: is its signature to be checked each time? repomd: sha256 of repomd.xml, which has the digests of all
    others, or "" where there is none, which is never as it was. files: name and size of each in cached/repodata.
    """

    cached: str
    origin: str | None
    signed: bool
    repomd: str
    files: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """metadata: what it was made of. libraries: path and status of each file that was mapped into the solver's process.
    warnings: that came with it."""

    resolution: Resolution
    metadata: tuple[Metadata, ...]
    libraries: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()


def key_of(what: str, request: SolveRequest, sections: Iterable[RepoSection]) -> str:
    """Digest of a question. what: "solve" or "describe". sections: of the repositories that take part.

    Raises TreefileError for a variable file that cannot be read.
    """
    question = {
        "compose": compose.__version__,
        "what": what,
        "request": dataclasses.asdict(request),
        # what they say may be relative to where they are
        "repositories": [(os.path.abspath(each.path), dataclasses.asdict(each)) for each in sections],
        "variables": variables(request.access),
    }
    return hashlib.sha256(json.dumps(question, sort_keys=True, default=sorted).encode()).hexdigest()


def recall(key: str, network: RepoNetwork) -> Answer | None:
    """The answer to a question, which is right if the metadata is what it was made of: see holds()."""
    path = os.path.join(network.solved_dir, key)
    data = read_sealed(path, _KIND)
    if data is None:
        return None
    try:
        answer = _answer(json.loads(bytes(data)))
    except (KeyError, TypeError, ValueError):
        # of a version that kept something else
        return None
    if not all(status and status == status_of(each) for each, status in answer.libraries):
        return None
    # when it was last of use
    with suppress(OSError):
        os.utime(path)
    return answer


def holds(answer: Answer, network: RepoNetwork) -> bool:
    """Is the metadata what the answer was made of, as far as can be told without libdnf5?"""
    if not all(_is_as_it_was(each, network) for each in answer.metadata):
        return False
    for each in answer.metadata:
        # as libdnf5 does it with what it loads
        with suppress(OSError):
            os.utime(os.path.join(network.metadata_dir, each.cached, REPOMD))
    return True


def keep(key: str, answer: Answer, network: RepoNetwork) -> None:
    """Remember an answer, where the disk has room for it: who is asked again solves again."""
    row = dataclasses.asdict(answer)
    row["resolution"]["packages"] = [dataclasses.astuple(each) for each in answer.resolution.packages]
    with suppress(OSError, StorageError):
        os.makedirs(network.solved_dir, mode=0o700, exist_ok=True)
        write_sealed(os.path.join(network.solved_dir, key), _KIND, json.dumps(row).encode())
        forget_oldest(network.solved_dir, _KEPT)


def libraries() -> tuple[tuple[str, str], ...]:
    """Those of this process: libdnf5, libsolv, librpm, all that they need, and where the linker looks for them."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in file if "/" in line}
    if os.path.exists(_LINKER):
        paths.add(_LINKER)
    return tuple((path, status_of(path)) for path in sorted(paths))


def digest_of(path: str) -> str:
    """sha256 of a file, "" for none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def status_of(path: str) -> str:
    """Of what is not there any more, "", which is never as it was."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _is_as_it_was(metadata: Metadata, network: RepoNetwork) -> bool:
    directory = os.path.join(network.metadata_dir, metadata.cached)
    places = [directory]
    if metadata.signed or not metadata.repomd:
        return False
    if not network.cache_only:
        if metadata.origin is None:
            return False
        places.append(metadata.origin)
    # packages that are not here yet are looked up in it
    return all(digest_of(os.path.join(place, REPOMD)) == metadata.repomd for place in places) and (
        metadata.files == tuple(sizes(os.path.join(directory, "repodata")))
    )


def sizes(directory: str) -> Iterator[tuple[str, int]]:
    """Of the files in a directory, sorted by name."""
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
            advisories=tuple(map(_advisory, found["advisories"])),
            links=tuple(map(_link, found["links"])),
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


def _advisory(row: dict[str, Any]) -> Advisory:
    from compose.solve.advisories import Advisory, Reference

    return Advisory(
        id=row["id"],
        severity=row["severity"],
        packages=tuple(row["packages"]),
        references=tuple(Reference(**each) for each in row["references"]),
    )


def _link(row: dict[str, Any]) -> Link:
    from compose.solve.links import Link, Need

    return Link(
        source=Nevra(**row["source"]),
        target=Nevra(**row["target"]),
        need=Need(row["need"]),
        dependency=row["dependency"],
    )
