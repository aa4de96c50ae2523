"""The solver's result, independent of libdnf5; later stages and the lockfile are built from it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compose.rpm.nevra import Nevra

# not imported at run time: few solves ask for links
if TYPE_CHECKING:
    from compose.solve.links import Link

COMMAND_LINE = "@commandline"
"""Id of libdnf5's pseudo-repository for RPM files given by path."""


class Reason(enum.StrEnum):
    """Why a package is in the set."""

    REQUESTED = "requested"
    DEPENDENCY = "dependency"
    WEAK = "weak-dependency"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedPackage:
    """One package of the solution.

    repo: id of the repository. location: path of the RPM below base. base: the package's own base URL (xml:base in the
    repodata), "" for that of the repository. checksum: (algorithm, hex) of the RPM file from the repodata. download_size,
    install_size: bytes. source_rpm: file name. specs: the treefile's package specs that this package satisfies, empty if it
    is not requested.
    """

    nevra: Nevra
    repo: str
    location: str
    checksum: tuple[str, str]
    download_size: int
    install_size: int
    source_rpm: str
    reason: Reason
    specs: tuple[str, ...] = ()
    base: str = ""


def lies_below(location: str) -> bool:
    """Whether a location stays below the repository's base; repodata is not trusted to ensure that."""
    return not location.startswith("/") and ".." not in location.split("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoSnapshot:
    """A repository at the time of the solve. timestamp: of its repomd.xml, seconds since 1970 (rpmostree.rpmmd-repos).
    priority: as in dnf.conf(5), the lowest wins."""

    id: str
    timestamp: int
    gpgcheck: bool
    gpgkeys: tuple[str, ...]
    priority: int = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A CVE that an advisory refers to."""

    url: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """A security advisory. severity: usually "critical", "important", "moderate" or "low"; "" for none. packages: NEVRAs of the
    composed packages that it lists."""

    id: str
    severity: str
    packages: tuple[str, ...]
    references: tuple[Reference, ...]


def advisories_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Advisory, ...]:
    """Decode advisories that were encoded by dataclasses.asdict() and JSON. Raises KeyError, TypeError."""
    return tuple(
        Advisory(
            **{
                **row,
                "packages": tuple(row["packages"]),
                "references": tuple(Reference(**each) for each in row["references"]),
            }
        )
        for row in rows
    )


def advisories_without(found: Iterable[Advisory] | None, known: Iterable[Advisory] | None) -> tuple[Advisory, ...]:
    """Those of the advisories whose id none of the known ones has."""
    ids = {each.id for each in known or ()}
    return tuple(each for each in found or () if each.id not in ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The solution. packages: sorted by NEVRA. repos: the enabled ones, sorted by id. advisories: those that list exactly these
    builds, sorted by id; None if not requested or not known. fixes: those that updating from the request's installed builds
    fixes, sorted by id. links: sorted; empty unless requested. lacking: what of the request's files no package has; empty if
    that is not known.

    directories: (id, path) of each repository whose only source is a local directory. locked: the packages come from a
    lockfile, without the metadata of any repository.
    """

    packages: tuple[ResolvedPackage, ...]
    repos: tuple[RepoSnapshot, ...]
    advisories: tuple[Advisory, ...] | None = None
    fixes: tuple[Advisory, ...] = ()
    links: tuple[Link, ...] = ()
    lacking: tuple[tuple[str, ...], ...] = ()
    directories: tuple[tuple[str, str], ...] = ()
    locked: bool = False
