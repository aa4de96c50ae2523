"""What the solver is asked: values, free of the treefile's own types."""

from __future__ import annotations

from dataclasses import dataclass

from compose.rpm.repos import RepoAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSpec:
    """text: one dnf-style spec: "bash", "bash-5.2", "bash.x86_64", "perl(Foo)", "/usr/bin/dnf", "skopeo >= 2:1.7".
    place: where the treefile says it, "fedora.yaml:12:5"."""

    text: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoPackages:
    """Packages that must come from one repository. place: of the entry in the treefile."""

    repo: str
    packages: tuple[PackageSpec, ...]
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRequest:
    """exclude_packages: exact names that the solver does not see. recommends: take weak dependencies along."""

    packages: tuple[PackageSpec, ...]
    access: RepoAccess
    repo_packages: tuple[RepoPackages, ...] = ()
    exclude_packages: tuple[PackageSpec, ...] = ()
    recommends: bool = True
