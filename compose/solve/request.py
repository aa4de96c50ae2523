"""What the solver is asked: values, free of the treefile's own types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compose.rpm.repos import RepoAccess
from compose.rpm.specs import PackageSpec, RepoPackages

# most composes are made without
if TYPE_CHECKING:
    from compose.solve.locked import LockRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRpm:
    """An RPM that is in no repository. path: where it lies. sha256: of the file, checked already. place: of the treefile."""

    path: str
    sha256: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRequest:
    """exclude_packages: exact names that the solver does not see. recommends: take weak dependencies along.

    rpm_files: RPMs to install that are in no repository. advisories: look up what the packages fix. links: say which package
    brings which along.
    """

    packages: tuple[PackageSpec, ...]
    access: RepoAccess
    repo_packages: tuple[RepoPackages, ...] = ()
    exclude_packages: tuple[PackageSpec, ...] = ()
    recommends: bool = True
    rpm_files: tuple[LocalRpm, ...] = ()
    lock: LockRequest | None = None
    advisories: bool = False
    links: bool = False
