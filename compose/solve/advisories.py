"""Security advisories fixed by the packages of a compose, from the repositories' updateinfo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from compose.rpm.compare import compare_evr
from compose.rpm.nevra import Nevra
from compose.solve.links import nevra_of
from compose.solve.resolution import Advisory, Reference

_SECURITY = "security"
_CVE = "cve"


def security_advisories(dnf: Any, base: Any, packages: Iterable[Any]) -> tuple[Advisory, ...]:
    """Advisories of type security that list exactly these builds, sorted by id. packages: libdnf5 packages."""
    chosen = dnf.rpm.PackageSet(base)
    for package in packages:
        chosen.add(package)
    nevras = {package.get_nevra() for package in chosen}
    query = dnf.advisory.AdvisoryQuery(base)
    query.filter_type(_SECURITY)
    query.filter_packages(chosen)
    return _advisories(query, lambda package: package.get_nevra() in nevras)


def security_updates(dnf: Any, base: Any, before: Iterable[Nevra], after: Iterable[Nevra]) -> tuple[Advisory, ...]:
    """Advisories of type security that list a build newer than one of before, and no newer than the one of the same name and
    architecture in after; sorted by id. Updating fixes them, even if later builds have replaced those that they list."""
    old, new = _newest(before), _newest(after)

    def is_fixed(package: Any) -> bool:
        key = package.get_name(), package.get_arch()
        if key not in old or key not in new:
            return False
        build = nevra_of(package)
        return compare_evr(old[key], build) < 0 <= compare_evr(new[key], build)

    query = dnf.advisory.AdvisoryQuery(base)
    query.filter_type(_SECURITY)
    return _advisories(query, is_fixed)


def _newest(builds: Iterable[Nevra]) -> dict[tuple[str, str], Nevra]:
    """By name and architecture; several kernels may be installed at once."""
    found: dict[tuple[str, str], Nevra] = {}
    for build in builds:
        key = build.name, build.arch
        if key not in found or compare_evr(found[key], build) < 0:
            found[key] = build
    return found


def _advisories(query: Iterable[Any], is_fixed: Callable[[Any], bool]) -> tuple[Advisory, ...]:
    """Those that list a fixed package. is_fixed: of a package that an advisory lists."""
    found: dict[str, Advisory] = {}
    for advisory in query:
        fixed = {
            package.get_nevra()
            for collection in advisory.get_collections()
            for package in collection.get_packages()
            if is_fixed(package)
        }
        if not fixed:
            continue
        name = advisory.get_name()
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
            packages=tuple(sorted(fixed | set(before.packages if before else ()))),
            references=tuple(dict.fromkeys((*(before.references if before else ()), *references))),
        )
    return tuple(found[name] for name in sorted(found))
