"""A package on local disk whose digest and signature have been checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from compose.solve.resolution import ResolvedPackage


@dataclass(frozen=True, slots=True, kw_only=True)
class RpmFile:
    """path: the RPM, absolute. sha256: of the file, computed here. key: fingerprint or ID of the signing key, hex; ""
    if the repository has gpgcheck=0. cached: whether it was in the cache before."""

    package: ResolvedPackage
    path: str
    sha256: str
    key: str
    cached: bool = field(default=False, compare=False)
