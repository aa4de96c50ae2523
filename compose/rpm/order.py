"""The order in which packages are installed: librpm's rules, in an implementation of our own.

librpm's order differs between machines: its versions begin loops at different packages, and it takes a dependency on
/bin/sh for one on /usr/bin/sh only if / of the host has that symlink.
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
    """Sort packages so that requirements come first, else by NEVRA. packages: each with the path of its RPM.

    May be called in a thread. Raises PackageError for a damaged header, AssembleError if librpm crashes on one.
    """
    by_name = sorted(packages)
    positions = child.call(_order_files, [path for _, path in by_name], reporter, crash=_crash)
    return tuple(by_name[position][0] for position in positions)


def _crash(cause: str, lines: tuple[str, ...]) -> ComposeError:
    return AssembleError(f"librpm died while ordering the packages: {cause}", details=lines)


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
    """Return the packages' positions in installation order. headers: rpm.hdr of each, in the order that breaks ties."""
    packages = [_candidate(header) for header in headers]
    # as in librpm: packages with 32-bit programs wait for the others
    last = {position: package.color for position, package in enumerate(packages) if package.color & 1}
    return sort(len(packages), relations_of(packages), last)


def _candidate(header: Any) -> Candidate:
    files = header[rpm.RPMTAG_FILENAMES]
    colors = _colors(header)
    return Candidate(
        provides=tuple(_dependencies(header, "PROVIDE")),
        # Recommends and other weak dependencies cannot name scriptlets, and impose no order
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
    """Return the colors of provides and requires, by entry of RPMTAG_DEPENDSDICT: the union over their files."""
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
