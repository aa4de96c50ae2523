"""What the solver decided, free of libdnf5: the values later stages and the lockfile are made of."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from compose.rpm.nevra import Nevra

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

    repo: id of the repository. location: path of the RPM below the repository's base URL. checksum: (algorithm, hex) of
    the RPM file from the repodata. download_size, install_size: bytes. source_rpm: file name. specs: the treefile's
    package specs that this package satisfies, empty when it is not requested.
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
class Reference:
    """A CVE."""

    url: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """A security advisory. severity: "critical", "important", "moderate", "low", or "" and others for none.
    packages: NEVRAs of the compose that it names."""

    id: str
    severity: str
    packages: tuple[str, ...]
    references: tuple[Reference, ...]


class Need(enum.StrEnum):
    """The kinds of dependency that bring a package along."""

    REQUIRES = "requires"
    RECOMMENDS = "recommends"
    SUPPLEMENTS = "supplements"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Link:
    """source brings target along. dependency: as declared ("libc.so.6()(64bit)"), by the target itself when it supplements."""

    source: Nevra
    target: Nevra
    need: Need
    dependency: str

    @property
    def weak(self) -> bool:
        return self.need is not Need.REQUIRES


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """packages: sorted by NEVRA. repos: those enabled, sorted by id. advisories: sorted by id. links: sorted, those asked for.

    locked: taken from a lockfile without looking at any repository's metadata.
    """

    packages: tuple[ResolvedPackage, ...]
    repos: tuple[RepoSnapshot, ...]
    advisories: tuple[Advisory, ...] = ()
    links: tuple[Link, ...] = ()
    locked: bool = False
