"""Name, epoch, version, release and architecture of an RPM."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Nevra:
    """Identity of a package build. epoch is 0 where the header has none."""

    name: str
    epoch: int
    version: str
    release: str
    arch: str

    @property
    def evr(self) -> str:
        """[epoch:]version-release, the epoch only when it is not 0."""
        prefix = f"{self.epoch}:" if self.epoch else ""
        return f"{prefix}{self.version}-{self.release}"

    @property
    def file_name(self) -> str:
        """Usual name of its RPM, which has no epoch."""
        return f"{self.name}-{self.version}-{self.release}.{self.arch}.rpm"

    def __str__(self) -> str:
        return f"{self.name}-{self.evr}.{self.arch}"
