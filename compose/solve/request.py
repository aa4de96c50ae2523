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
class LocalRpm:
    """An RPM that is in no repository. path: where it lies. sha256: of the file, checked already. place: of the treefile."""

    path: str
    sha256: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedBuild:
    """A build that a lockfile has. evr: [epoch:]version-release. arch: None for any. digest: "sha256:...", or None."""

    name: str
    evr: str
    arch: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return f"{self.name}-{self.evr}" + (f".{self.arch}" if self.arch else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """builds: those a solve may take of their names. strict: of other names it may take nothing. repos: from these it may
    take only what is locked. place: the lockfile, for messages."""

    builds: tuple[LockedBuild, ...]
    strict: bool
    repos: frozenset[str] = frozenset()
    place: str = "lockfile"


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
