"""Security advisories fixed by the packages of a compose, from the repositories' updateinfo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_SECURITY = "security"
_CVE = "cve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A CVE that an advisory refers to."""

    url: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """A security advisory. severity: usually "critical", "important", "moderate" or "low"; "" for none. packages: NEVRAs of the
    composed packages that it lists."""

    id: str
    severity: str
    packages: tuple[str, ...]
    references: tuple[Reference, ...]


def security_advisories(dnf: Any, base: Any, packages: Iterable[Any]) -> tuple[Advisory, ...]:
    """Advisories of type security that list exactly these builds, sorted by id. packages: libdnf5 packages."""
    chosen = dnf.rpm.PackageSet(base)
    for package in packages:
        chosen.add(package)
    nevras = {package.get_nevra() for package in chosen}
    query = dnf.advisory.AdvisoryQuery(base)
    query.filter_type(_SECURITY)
    query.filter_packages(chosen)
    found: dict[str, Advisory] = {}
    for advisory in query:
        name = advisory.get_name()
        fixed = {
            package.get_nevra() for collection in advisory.get_collections() for package in collection.get_packages()
        }
        references = [
            Reference(url=reference.get_url() or "", title=reference.get_title() or reference.get_id() or "")
            for reference in advisory.get_references()
            if reference.get_type() == _CVE
        ]
        # two repositories may have the same advisory
        before = found.get(name)
        found[name] = Advisory(
            id=name,
            severity=(advisory.get_severity() or "").lower(),
            packages=tuple(sorted((fixed & nevras) | set(before.packages if before else ()))),
            references=tuple(dict.fromkeys((*(before.references if before else ()), *references))),
        )
    return tuple(found[name] for name in sorted(found))
