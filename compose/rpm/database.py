"""The rpm database of a composed tree, written by librpm.

Each header gets what librpm adds when it installs a package (install time, transaction id, state of every file), and
`rpmdb --importdb` makes the database and its indices of them. A transaction with JUSTDB would read every RPM file once
more and date it with the clock. What would differ from one compose to the next is fixed: times are SOURCE_DATE_EPOCH,
and SQLite's file is rewritten whole. What SQLite writes about itself is taken out: its version, how often it has
written, its statistics.
"""

from __future__ import annotations

import enum
import os
import re
import sqlite3
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from compose import fs
from compose.errors import AssembleError, ComposeError, StorageError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.header import read_header, scripts_of
from compose.rpm.manifest import PackageManifest, Scriptlet, Trigger
from compose.rpm.nevra import Nevra

DATABASE_PATH = "usr/share/rpm"
"""Where image-based systems have it; /var is not part of a commit."""

_FILE = "rpmdb.sqlite"
_HEADER_MAGIC = bytes.fromhex("8eade80100000000")
# SQLite's words for SQLITE_FULL and SQLITE_IOERR
_DISK = re.compile(r"database or disk is full|disk I/O error")
# rpmtag.h
_INSTALLTIME, _FILESTATES, _INSTALLCOLOR, _INSTALLTID = 1008, 1029, 1127, 1128
_DIRINDEXES, _BASENAMES, _DIRNAMES = 1116, 1117, 1118
_CHAR, _INT32 = 1, 4
# bits of rpm's file colors: 32 and 64 bit
_ALL_COLORS = 3
_LAST_TIME = (1 << 32) - 1
_WRITTEN_AT_ONCE = 64
"""Headers: after each write a thread waits for the others."""
_COUNTS, _ENTRY = struct.Struct(">II"), struct.Struct(">IIII")
# Of SQLite's file format (sqlite.org/fileformat2.html, 1.3): "file change counter", "version-valid-for number" and the
# SQLITE_VERSION_NUMBER of who wrote last. 1.6: kinds of b-tree pages, with the size of their headers.
_PAGE_SIZE, _CHANGES, _VALID_FOR, _WRITER, _FILE_HEADER = 16, 24, 92, 96, 100
_TREE_PAGES = {2: 12, 5: 12, 10: 8, 13: 8}


class FileState(enum.IntEnum):
    """rpmfileState in rpm's rpmfiles.h. NOT_INSTALLED: on purpose (%doc files of a tree without documentation). WRONG_COLOR: a
    program of another word size is there."""

    NORMAL = 0
    NOT_INSTALLED = 2
    WRONG_COLOR = 4


def make_database(
    ordered: Sequence[PackageManifest],
    directory: str,
    *,
    states: Mapping[tuple[str, str], FileState],
    epoch: int,
) -> bytes:
    """What rpmdb.sqlite is to hold.

    ordered: packages in install order. directory: private and empty, left with leftovers. states: (NEVRA, path) to what is
    recorded of files that are not as usual. epoch: seconds since 1970. Raises AssembleError when librpm refuses, StorageError
    when the disk does.
    """
    with fs.storage_errors(directory), tempfile.TemporaryFile(dir=directory) as file:
        unusual: dict[str, dict[str, FileState]] = {}
        for (package, path), state in states.items():
            unusual.setdefault(package, {})[path] = state
        for first in range(0, len(ordered), _WRITTEN_AT_ONCE):
            some = ordered[first : first + _WRITTEN_AT_ONCE]
            file.write(
                b"".join(
                    _HEADER_MAGIC + installed_header(each, unusual.get(str(each.nevra), {}), epoch) for each in some
                )
            )
        file.seek(0)
        done = subprocess.run(
            ["rpmdb", "--dbpath", os.path.abspath(directory), "--define", "_db_backend sqlite", "--importdb"],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
            check=False,
        )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").splitlines()[-20:]
        for line in lines:
            if _DISK.search(line):
                raise _refused(directory, line)
        raise AssembleError("librpm refuses to record the packages", details=lines)
    try:
        return _settled(directory)
    except sqlite3.OperationalError as error:
        raise _refused(directory, str(error)) from error


def read_headers(paths: Sequence[str], reporter: Reporter) -> tuple[PackageManifest, ...]:
    """RPM files as make_database() takes them, for a database that tells what is installed, and not in which state the files
    are: none of them is imported. Raises PackageError, StorageError."""
    return child.call(_read_headers, tuple(paths), reporter, crash=_crash)


def _read_headers(paths: tuple[str, ...], reporter: Reporter) -> tuple[PackageManifest, ...]:
    del reporter
    found = []
    for path in paths:
        with fs.storage_errors(path), open(path, "rb") as file:
            header = read_header(file.fileno(), os.path.basename(path))
        found.append(
            PackageManifest(
                nevra=header.nevra,
                sha256="",
                source_rpm=header.source_rpm,
                build_time=header.build_time,
                size=header.size,
                header=header.raw,
                files=(),
            )
        )
    return tuple(found)


def _refused(directory: str, words: str) -> StorageError:
    hint = fs.FREE_SPACE if "full" in words else fs.FAILING
    return StorageError(f"cannot write the rpm database in {directory}: {words}", hint=hint)


def _crash(how: str, lines: tuple[str, ...]) -> ComposeError:
    return AssembleError(f"librpm died while reading headers: {how}", details=lines)


def installed_header(manifest: PackageManifest, unusual: Mapping[str, FileState], epoch: int) -> bytes:
    """A header as an installation leaves it, and as --exportdb writes it. unusual: path to its state.

    It has two counts (index entries, bytes of data), the entries (tag, type, offset, count), the data; all numbers
    big-endian, 32 bits (rpm's docs/manual/format_header.md). Entries of its own may follow the ones signed.
    """
    header = manifest.header
    now = min(epoch, _LAST_TIME).to_bytes(4, "big")
    more = [
        (_INSTALLTIME, _INT32, 1, now),
        (_INSTALLCOLOR, _INT32, 1, _ALL_COLORS.to_bytes(4, "big")),
        (_INSTALLTID, _INT32, 1, now),
    ]
    if manifest.files:
        states = bytes([FileState.NORMAL]) * len(manifest.files)
        if unusual and any(file.path in unusual for file in manifest.files):
            states = bytes(unusual.get(name, FileState.NORMAL) for name in _file_names(header))
        more.append((_FILESTATES, _CHAR, len(states), states))
    count, size = _COUNTS.unpack_from(header)
    split = _COUNTS.size + _ENTRY.size * count
    index, data = bytearray(), bytearray(-size % 4)
    for tag, kind, values, value in more:
        index += _ENTRY.pack(tag, kind, size + len(data), values)
        data += value
    counts = _COUNTS.pack(count + len(more), size + len(data))
    return counts + header[_COUNTS.size : split] + index + header[split:] + data


def _file_names(header: bytes) -> list[str]:
    """Paths without the leading slash, in the header's order."""
    count, _ = _COUNTS.unpack_from(header)
    start = _COUNTS.size + _ENTRY.size * count
    rows = _ENTRY.iter_unpack(header[_COUNTS.size : start])
    places = {tag: (start + offset, values) for tag, _, offset, values in rows}

    def strings(tag: int) -> list[str]:
        place, values = places[tag]
        return [text.decode(errors="surrogateescape") for text in header[place:].split(b"\0", values)[:values]]

    place, values = places[_DIRINDEXES]
    indexes = struct.unpack_from(f">{values}I", header, place)
    directories = strings(_DIRNAMES)
    return [
        f"{directories[index]}{name}".removeprefix("/")
        for index, name in zip(indexes, strings(_BASENAMES), strict=True)
    ]


def _settled(directory: str) -> bytes:
    """One file, whose bytes depend on its content only: no write-ahead log, pages in order."""
    path, whole = f"{directory}/{_FILE}", f"{directory}/whole.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        # nobody needs what a crash leaves
        database.execute("PRAGMA synchronous=OFF")
        # what ANALYZE counted, in the order and as exactly as this version of it does; rpm's look-ups have one index to choose
        for table in ("sqlite_stat1", "sqlite_stat4"):
            database.execute(f"DROP TABLE IF EXISTS {table}")
        database.execute("PRAGMA page_size=4096")
        # into another file, for that is written once, without a journal
        database.execute("VACUUM INTO ?", (whole,))
    with fs.storage_errors(whole), open(whole, "rb") as file:
        return without_its_writer(file.read())


def without_its_writer(database: bytes) -> bytes:
    """An SQLite database without what tells the version of SQLite that wrote it.

    That is its number, how often it has written, and what it left in the gaps of pages: versions before 3.46 leave traces of
    cells that were moved. Readers look at none of it.
    """
    data = bytearray(database)
    # the first two must be equal, or readers do not believe the number of pages
    for offset, number in ((_CHANGES, 1), (_VALID_FOR, 1), (_WRITER, 0)):
        struct.pack_into(">I", data, offset, number)
    (size,) = struct.unpack_from(">H", data, _PAGE_SIZE)
    for page in range(0, len(data), size):
        header = page or _FILE_HEADER
        if data[header] in _TREE_PAGES:
            cells, content = struct.unpack_from(">HH", data, header + 3)
            gap = slice(header + _TREE_PAGES[data[header]] + 2 * cells, page + content)
            data[gap] = bytes(gap.stop - gap.start)
    return bytes(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangelogEntry:
    """time: seconds since 1970, noon of a day mostly. author: as written, with version and release behind it."""

    time: int
    author: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPackage:
    """What a database tells of a package. size: of its files, bytes. changelog: newest first. license, vendor, url, summary:
    as its header has them, "" for none."""

    nevra: Nevra
    size: int
    source_rpm: str
    scriptlets: tuple[Scriptlet, ...]
    triggers: tuple[Trigger, ...]
    changelog: tuple[ChangelogEntry, ...]
    license: str = ""
    vendor: str = ""
    url: str = ""
    summary: str = ""


def look_in(directory: str) -> None:
    """Have librpm, and libdnf5 by it, look for the database in a directory. For a process of its own."""
    import rpm

    rpm.addMacro("_dbpath", directory)


def read_packages(directory: str, reporter: Reporter) -> tuple[InstalledPackage, ...]:
    """The packages of the database in a directory, by NEVRA. Raises AssembleError when librpm refuses it, or it is damaged."""
    return child.call(_list_packages, directory, reporter, crash=_crash)


def _list_packages(directory: str, reporter: Reporter) -> tuple[InstalledPackage, ...]:
    del reporter
    return tuple(sorted((_package(header) for header in headers_in(directory)), key=lambda each: each.nevra))


def headers_in(directory: str) -> Iterator[Any]:
    """librpm's headers of the packages of the database in a directory. For a process of its own.

    Raises AssembleError when librpm refuses the database, or passes over what is damaged, which it does without an error.
    """
    import rpm

    look_in(directory)
    transaction = rpm.TransactionSet()
    # nothing here was signed; it is read, and nothing of it run
    transaction.setVSFlags(rpm._RPMVSF_NOSIGNATURES)
    read = 0
    try:
        for header in transaction.dbMatch():
            read += 1
            if header["name"] != "gpg-pubkey":
                yield header
        there = _count(directory)
    except (rpm.error, sqlite3.Error) as error:
        raise AssembleError(f"the rpm database cannot be read: {error}") from error
    if read != there:
        raise AssembleError(f"the rpm database is damaged: of {there} packages in it {read} can be read")


def _count(directory: str) -> int:
    """Packages that are in the database, whatever librpm takes of them. Raises sqlite3.Error."""
    # as librpm opens it: where nobody can write, there is no log to wait for
    how = "mode=ro" if os.access(directory, os.W_OK) else "immutable=1"
    uri = f"file:{quote(os.path.abspath(directory))}/{_FILE}?{how}"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        (found,) = database.execute("SELECT count(*) FROM Packages").fetchone()
    return int(found)


def packages_of(manifests: Sequence[PackageManifest], reporter: Reporter) -> tuple[InstalledPackage, ...]:
    """What a database would tell of packages once they are installed, in their order."""
    return child.call(_describe, tuple(each.header for each in manifests), reporter, crash=_crash)


def _describe(headers: tuple[bytes, ...], reporter: Reporter) -> tuple[InstalledPackage, ...]:
    import rpm

    del reporter
    return tuple(_package(rpm.hdr(header)) for header in headers)


def _package(header: Any) -> InstalledPackage:
    """Of a header of librpm's."""
    nevra = nevra_of(header)
    scriptlets, triggers = scripts_of(header, str(nevra))
    changes = zip(header["changelogtime"], header["changelogname"], header["changelogtext"], strict=False)
    return InstalledPackage(
        nevra=nevra,
        size=int(header["longsize"] or 0),
        source_rpm=text_of(header["sourcerpm"]),
        scriptlets=scriptlets,
        triggers=triggers,
        changelog=tuple(
            ChangelogEntry(time=when, author=text_of(by), text=text_of(text)) for when, by, text in changes
        ),
        license=text_of(header["license"]),
        vendor=text_of(header["vendor"]),
        url=text_of(header["url"]),
        summary=text_of(header["summary"]),
    )


def nevra_of(header: Any) -> Nevra:
    """Of a header of librpm's."""
    return Nevra(
        name=text_of(header["name"]),
        epoch=int(header["epoch"] or 0),
        version=text_of(header["version"]),
        release=text_of(header["release"]),
        arch=text_of(header["arch"]),
    )


def text_of(value: str | None) -> str:
    """What librpm says for people, "" for nothing. Old packages have other encodings than UTF-8: what cannot be read, and could
    not be written, is U+FFFD."""
    return (value or "").encode(errors="surrogateescape").decode(errors="replace")
