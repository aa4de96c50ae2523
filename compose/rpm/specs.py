"""Package specs, as a treefile has them and the solver takes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSpec:
    """text: one dnf-style spec: "bash", "bash-5.2", "bash.x86_64", "perl(Foo)", "/usr/bin/dnf", "skopeo >= 2:1.7".
    place: its position in the treefile, "fedora.yaml:12:5"."""

    text: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoPackages:
    """Packages that must come from one repository. place: of this entry in the treefile."""

    repo: str
    packages: tuple[PackageSpec, ...]
    place: str
