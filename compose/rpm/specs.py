"""What packages are asked for with, as a treefile says it and the solver takes it."""

from __future__ import annotations

from dataclasses import dataclass


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
