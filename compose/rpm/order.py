"""The order in which packages are installed: librpm's rules, applied to their headers here.

librpm's own order would not be the same on every machine: its versions begin loops at different packages, and it takes a
dependency on /bin/sh for one on /usr/bin/sh where / of the machine has that link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from types import MappingProxyType
from typing import Any

import rpm

from compose.errors import AssembleError, ComposeError, PackageError, StorageError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.header import load_header
from compose.rpm.nevra import Nevra
from compose.rpm.relations import Candidate, Dependency, relations_of
from compose.rpm.sorting import sort

_NO_COLORS: Mapping[int, int] = MappingProxyType({})


def install_order(packages: Sequence[tuple[Nevra, str]], reporter: Reporter) -> tuple[Nevra, ...]:
    """Requirements first; what nothing else decides goes by NEVRA. packages: with the path of the RPM of each.

    May be called in a thread. Raises PackageError for a header that is damaged, AssembleError when librpm dies of one.
    """
    by_name = sorted(packages)
    positions = child.call(_order_files, [path for _, path in by_name], reporter, crash=_crash)
    return tuple(by_name[position][0] for position in positions)


def _crash(how: str, lines: tuple[str, ...]) -> ComposeError:
    return AssembleError(f"librpm died while ordering the packages: {how}", details=lines)


def _order_files(paths: list[str], reporter: Reporter) -> list[int]:
    del reporter
    return order([_load(path) for path in paths])


def _load(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            return load_header(file.fileno())
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    except rpm.error as error:
        raise PackageError(f"{os.path.basename(path)}: its header is damaged") from error


def order(headers: Sequence[Any]) -> list[int]:
    """Places of packages in the order of installation. headers: rpm.hdr of each, sorted by what else decides."""
    packages = [_candidate(header) for header in headers]
    # as librpm does it: what has 32-bit programs waits for the others
    last = {position: package.color for position, package in enumerate(packages) if package.color & 1}
    return sort(len(packages), relations_of(packages), last)


def _candidate(header: Any) -> Candidate:
    files = header[rpm.RPMTAG_FILENAMES]
    colors = _colors(header)
    return Candidate(
        provides=tuple(_dependencies(header, "PROVIDE")),
        # Recommends and its like have no scriptlets to name, and order nothing
        needs=(*_dependencies(header, "REQUIRE", colors), *_dependencies(header, "ORDER")),
        files=files,
        links={
            path: target
            for path, mode, target in zip(
                files, header[rpm.RPMTAG_FILEMODES], header[rpm.RPMTAG_FILELINKTOS], strict=False
            )
            if stat.S_ISLNK(mode)
        },
        color=reduce(or_, colors.values(), 0),
    )


def _colors(header: Any) -> dict[int, int]:
    """Of the provides and requires, by their numbers in RPMTAG_DEPENDSDICT: together those of the files they are of."""
    entries = header[rpm.RPMTAG_DEPENDSDICT]
    columns = (header[tag] for tag in (rpm.RPMTAG_FILECOLORS, rpm.RPMTAG_FILEDEPENDSX, rpm.RPMTAG_FILEDEPENDSN))
    found: dict[int, int] = {}
    for color, start, count in zip(*columns, strict=False):
        for entry in entries[start : start + count]:
            found[entry] = found.get(entry, 0) | color
    return found


def _dependencies(header: Any, family: str, colors: Mapping[int, int] = _NO_COLORS) -> Iterator[Dependency]:
    columns = [header[f"{family}{column}"] for column in ("NAME", "FLAGS", "VERSION")]
    if len(set(map(len, columns))) > 1:
        raise PackageError(f"{header[rpm.RPMTAG_NEVRA]}: its {family} tags differ in length")
    for position, (name, flags, version) in enumerate(zip(*columns, strict=True)):
        weak = family == "REQUIRE" and bool(flags & rpm.RPMSENSE_MISSINGOK)
        color = colors.get(ord("R") << 24 | position, 0)
        yield Dependency(name=name, flags=flags, version=version, weak=weak, color=color)
