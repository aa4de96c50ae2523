"""What the solver decided, free of libdnf5: the values later stages and the lockfile are made of."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compose.rpm.nevra import Nevra

# most composes are unchanged, and have none or are not asked for any
if TYPE_CHECKING:
    from compose.solve.advisories import Advisory
    from compose.solve.links import Link

COMMAND_LINE = "@commandline"
"""What libdnf5 calls the repository of RPMs that are in none."""


class Reason(enum.StrEnum):
    """Why a package is in the set."""

    REQUESTED = "requested"
    DEPENDENCY = "dependency"
    WEAK = "weak-dependency"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedPackage:
    """One package of the solution.

    repo: id of the repository. location: path of the RPM below base. base: URL where the metadata has one for the package
    (xml:base), "" for the repository's own. checksum: (algorithm, hex) of the RPM file from the repodata. download_size,
    install_size: bytes. source_rpm: file name. specs: the treefile's package specs that this package satisfies, empty when it
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
    """Is the RPM at a location in its repository, and nowhere else? Metadata may say anything."""
    return not location.startswith("/") and ".." not in location.split("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoSnapshot:
    """A repository as it was when solved. timestamp: of its repomd.xml, seconds since 1970 (rpmostree.rpmmd-repos).
    priority: as in dnf.conf(5), the lowest goes first."""

    id: str
    timestamp: int
    gpgcheck: bool
    gpgkeys: tuple[str, ...]
    priority: int = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """packages: sorted by NEVRA. repos: those enabled, sorted by id. advisories: sorted by id. links: sorted, those asked for.

    directories: id and path of each repository that is a directory on this machine and nowhere else. locked: taken from a
    lockfile without looking at any repository's metadata.
    """

    packages: tuple[ResolvedPackage, ...]
    repos: tuple[RepoSnapshot, ...]
    advisories: tuple[Advisory, ...] = ()
    links: tuple[Link, ...] = ()
    directories: tuple[tuple[str, str], ...] = ()
    locked: bool = False
