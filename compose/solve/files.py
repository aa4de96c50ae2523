"""Which files packages have, by the lists of files in the repositories' metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def lacking(
    dnf: Any, base: Any, packages: Iterable[Any], wanted: Iterable[tuple[str, ...]]
) -> tuple[tuple[str, ...], ...]:
    """What is wanted and no package has. wanted: alternative patterns of paths each, in which `*` stands for slashes, too; each
    takes a look at all files. packages: libdnf5 packages of repositories with complete lists of files."""
    chosen = dnf.rpm.PackageSet(base)
    for package in packages:
        chosen.add(package)

    def is_there(pattern: str) -> bool:
        query = dnf.rpm.PackageQuery(chosen)
        query.filter_file([pattern], dnf.common.QueryCmp_GLOB)
        return not query.empty()

    return tuple(patterns for patterns in wanted if not any(map(is_there, patterns)))
