"""The files that each package of an rpm database installed, and the dates of its build and its changes."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import rpm

from compose.errors import AssembleError, ComposeError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.database import FileState, headers_in
from compose.rpm.header import nevra_of, text_of
from compose.rpm.manifest import FileFlag
from compose.rpm.nevra import Nevra


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtFiles:
    """Files and dates of one package. build_time: seconds since 1970. changes: likewise, of each changelog entry.

    files: regular files and symlinks that it installed, relative to the root, sorted. %ghost files are not included:
    the files of these names were created by others, such as ld.so.cache or the rpm database itself.
    """

    nevra: Nevra
    source_rpm: str
    build_time: int
    changes: tuple[int, ...]
    files: tuple[str, ...]


def brought_files(directory: str, reporter: Reporter) -> tuple[BroughtFiles, ...]:
    """Describe the packages of the database in a directory, sorted by NEVRA. Raises AssembleError if it is damaged."""
    return child.call(_list_files, directory, reporter, crash=_crash)


def _crash(cause: str, lines: tuple[str, ...]) -> ComposeError:
    return AssembleError(f"librpm died while reading the rpm database: {cause}", details=lines)


def _list_files(directory: str, reporter: Reporter) -> tuple[BroughtFiles, ...]:
    del reporter
    return tuple(sorted(map(_package_files, headers_in(directory)), key=lambda package: package.nevra))


def _package_files(header: Any) -> BroughtFiles:
    nevra = nevra_of(header)
    try:
        files = sorted(_files(header))
    except (rpm.error, ValueError) as error:
        raise AssembleError(f"the rpm database is damaged: the files of {nevra} cannot be read: {error}") from error
    return BroughtFiles(
        nevra=nevra,
        source_rpm=text_of(header["sourcerpm"]),
        build_time=int(header["buildtime"] or 0),
        changes=tuple(int(time) for time in header["changelogtime"]),
        files=tuple(files),
    )


def _files(header: Any) -> Iterator[str]:
    """Raises rpm.error or ValueError if the columns do not match."""
    names, modes, flags = header["filenames"], header["filemodes"], header["fileflags"]
    # a database that was written without an installation has none
    states = header["filestates"] or [FileState.NORMAL] * len(names)
    for name, mode, flag, state in zip(names, modes, flags, states, strict=True):
        if not stat.S_ISDIR(mode) and not flag & FileFlag.GHOST and state == FileState.NORMAL:
            yield name.removeprefix("/")
