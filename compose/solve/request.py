"""The solver's input, independent of the treefile's types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compose.rpm.nevra import Nevra
from compose.rpm.repos import RepoAccess
from compose.rpm.specs import PackageSpec, RepoPackages

# not imported at run time: most composes have no lockfile
if TYPE_CHECKING:
    from compose.solve.locked import LockRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRpm:
    """An RPM file that does not come from a repository. sha256: of the file, already verified. place: the treefile's line."""

    path: str
    sha256: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRequest:
    """What to solve. exclude_packages: exact names to hide from the solver. recommends: install weak dependencies.

    rpm_files: RPMs to install that do not come from a repository. advisories: look up the advisories that the packages fix.
    installed: look up, too, the advisories fixed by updating from these builds. links: also return the dependencies between
    the packages. files: what some package should have, alternative patterns of paths each.
    """

    packages: tuple[PackageSpec, ...]
    access: RepoAccess
    repo_packages: tuple[RepoPackages, ...] = ()
    exclude_packages: tuple[PackageSpec, ...] = ()
    recommends: bool = True
    rpm_files: tuple[LocalRpm, ...] = ()
    lock: LockRequest | None = None
    advisories: bool = False
    installed: tuple[Nevra, ...] = ()
    links: bool = False
    files: tuple[tuple[str, ...], ...] = ()
