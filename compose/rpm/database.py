"""The rpm database of a composed tree, written by librpm.

Each header gets the tags that librpm adds on installation (install time, transaction id, state of every file), and
`rpmdb --importdb` builds the database and its indices from the headers. A transaction with JUSTDB would read every RPM
file once more, and record the clock's time. Whatever would differ from one compose to the next is fixed: times are
SOURCE_DATE_EPOCH, SQLite's file is rewritten as a whole, and what SQLite records about itself is removed (its version,
its change counter, its statistics).
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

import rpm

from compose import fs
from compose.errors import AssembleError, ComposeError, StorageError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.header import nevra_of, read_header, scripts_of, text_of
from compose.rpm.manifest import PackageManifest, Scriptlet, Trigger
from compose.rpm.nevra import Nevra
from compose.rpm.rawheader import COUNTS, ENTRY, find, strings

DATABASE_PATH = "usr/share/rpm"
"""Its path on image-based systems; /var is not part of a commit."""

_FILE = "rpmdb.sqlite"
_HEADER_MAGIC = bytes.fromhex("8eade80100000000")
# SQLite's messages for SQLITE_FULL and SQLITE_IOERR
_DISK = re.compile(r"database or disk is full|disk I/O error")
# rpmtag.h
_INSTALLTIME, _FILESTATES, _INSTALLCOLOR, _INSTALLTID = 1008, 1029, 1127, 1128
_DIRINDEXES, _BASENAMES, _DIRNAMES = 1116, 1117, 1118
_CHAR, _INT32 = 1, 4
# bits of rpm's file colors: 32 and 64 bit
_ALL_COLORS = 3
_LAST_TIME = (1 << 32) - 1
_BATCH = 64
"""Headers per write: after each write, this thread has to wait for the GIL."""
# SQLite's file format (sqlite.org/fileformat2.html). 1.3: offsets of page size, "file change counter",
# "version-valid-for number" and SQLITE_VERSION_NUMBER of the last writer; size of the header. 1.6: b-tree page types,
# sizes of their headers.
_PAGE_SIZE, _CHANGES, _VALID_FOR, _WRITER, _FILE_HEADER = 16, 24, 92, 96, 100
_TREE_PAGES = {2: 12, 5: 12, 10: 8, 13: 8}


class FileState(enum.IntEnum):
    """rpmfileState in rpm's rpmfiles.h. NOT_INSTALLED: left out on purpose (%doc files of a tree without
    documentation). WRONG_COLOR: a program of the other word size is at this path."""

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
    """Return the content of rpmdb.sqlite for the given packages.

    ordered: packages in install order. directory: private and empty; temporary files are left there. states: by (NEVRA,
    path), for files whose state is not NORMAL. epoch: seconds since 1970. Raises AssembleError if librpm refuses,
    StorageError if the disk does.
    """
    with fs.storage_errors(directory), tempfile.TemporaryFile(dir=directory) as file:
        unusual: dict[str, dict[str, FileState]] = {}
        for (nevra, path), state in states.items():
            unusual.setdefault(nevra, {})[path] = state
        for start in range(0, len(ordered), _BATCH):
            file.write(
                b"".join(
                    _HEADER_MAGIC + installed_header(package, unusual.get(str(package.nevra), {}), epoch)
                    for package in ordered[start : start + _BATCH]
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
                raise _disk_error(directory, line)
        raise AssembleError("librpm refuses to record the packages", details=lines)
    try:
        return _canonical(directory)
    except sqlite3.OperationalError as error:
        raise _disk_error(directory, str(error)) from error


def read_headers(paths: Sequence[str], reporter: Reporter) -> tuple[PackageManifest, ...]:
    """Read RPM files for make_database() without importing them.

    The resulting database lists the packages, but has no file states. Raises PackageError, StorageError.
    """
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


def _disk_error(directory: str, message: str) -> StorageError:
    hint = fs.FREE_SPACE if "full" in message else fs.FAILING
    return StorageError(f"cannot write the rpm database in {directory}: {message}", hint=hint)


def _crash(cause: str, lines: tuple[str, ...]) -> ComposeError:
    return AssembleError(f"librpm died while reading headers: {cause}", details=lines)


def installed_header(manifest: PackageManifest, unusual: Mapping[str, FileState], epoch: int) -> bytes:
    """Return a package's header as an installation leaves it and `rpmdb --exportdb` writes it.

    unusual: states by path, for files whose state is not NORMAL. Further entries may follow the signed ones.
    """
    header = manifest.header
    now = min(epoch, _LAST_TIME).to_bytes(4, "big")
    added = [
        (_INSTALLTIME, _INT32, 1, now),
        (_INSTALLCOLOR, _INT32, 1, _ALL_COLORS.to_bytes(4, "big")),
        (_INSTALLTID, _INT32, 1, now),
    ]
    if manifest.files:
        states = bytes([FileState.NORMAL]) * len(manifest.files)
        if unusual and any(file.path in unusual for file in manifest.files):
            states = bytes(unusual.get(name, FileState.NORMAL) for name in _file_names(header))
        added.append((_FILESTATES, _CHAR, len(states), states))
    count, size = COUNTS.unpack_from(header)
    split = COUNTS.size + ENTRY.size * count
    index, data = bytearray(), bytearray(-size % 4)
    for tag, kind, values, value in added:
        index += ENTRY.pack(tag, kind, size + len(data), values)
        data += value
    counts = COUNTS.pack(count + len(added), size + len(data))
    return counts + header[COUNTS.size : split] + index + header[split:] + data


def _file_names(header: bytes) -> list[str]:
    """Return the paths in a header without the leading slash, in header order."""
    offset, count = find(header, _DIRINDEXES)
    indexes = struct.unpack_from(f">{count}I", header, offset)
    directories = strings(header, _DIRNAMES)
    return [
        f"{directories[index]}{name}".removeprefix("/")
        for index, name in zip(indexes, strings(header, _BASENAMES), strict=True)
    ]


def _canonical(directory: str) -> bytes:
    """Return the database as one file whose bytes depend on its content only: no write-ahead log, pages in order."""
    path, whole = f"{directory}/{_FILE}", f"{directory}/whole.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        # nothing needs to survive a crash
        database.execute("PRAGMA synchronous=OFF")
        # ANALYZE's results depend on SQLite's version; rpm's queries do without, having but one index to choose from
        for table in ("sqlite_stat1", "sqlite_stat4"):
            database.execute(f"DROP TABLE IF EXISTS {table}")
        database.execute("PRAGMA page_size=4096")
        # into another file, which is written once and without a journal
        database.execute("VACUUM INTO ?", (whole,))
    with fs.storage_errors(whole), open(whole, "rb") as file:
        return without_writer_traces(file.read())


def without_writer_traces(database: bytes) -> bytes:
    """Remove from an SQLite database what depends on the version of SQLite that wrote it.

    That is the version number, the change counter, and the gaps of pages, in which versions before 3.46 leave traces of
    moved cells. Readers ignore all three.
    """
    data = bytearray(database)
    # readers trust the number of pages only if the first two are equal
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


def same_records(one: bytes, other: bytes) -> bool:
    """Are two SQLite databases equal but for their headers, which a mere query may change?"""
    return one[_FILE_HEADER:] == other[_FILE_HEADER:]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangelogEntry:
    """time: seconds since 1970, mostly noon of a day. author: as written, followed by version and release."""

    time: int
    author: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPackage:
    """A package as recorded in a database. size: of its files, in bytes. changelog: newest first. license, vendor, url,
    summary: as in its header, "" for none."""

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
    """Point librpm, and thereby libdnf5, at the database in a directory. Global: for child processes only."""
    rpm.addMacro("_dbpath", directory)


def read_packages(directory: str, reporter: Reporter) -> tuple[InstalledPackage, ...]:
    """Return the packages of the database in a directory, sorted by NEVRA. Raises AssembleError if it is damaged."""
    return child.call(_list_packages, directory, reporter, crash=_crash)


def _list_packages(directory: str, reporter: Reporter) -> tuple[InstalledPackage, ...]:
    del reporter
    return tuple(sorted(map(_package, headers_in(directory)), key=lambda package: package.nevra))


def headers_in(directory: str) -> Iterator[Any]:
    """Yield the rpm.hdr of each package of the database in a directory. For child processes only.

    Raises AssembleError if librpm refuses the database, or skips damaged packages, which it does without an error.
    """
    look_in(directory)
    transaction = rpm.TransactionSet()
    # a database has no signature; it is only read, and nothing from it is run
    transaction.setVSFlags(rpm._RPMVSF_NOSIGNATURES)
    read = 0
    try:
        for header in transaction.dbMatch():
            read += 1
            if header["name"] != "gpg-pubkey":
                yield header
        total = _count(directory)
    except (rpm.error, sqlite3.Error) as error:
        raise AssembleError(f"the rpm database cannot be read: {error}") from error
    if read != total:
        raise AssembleError(f"the rpm database is damaged: only {read} of its {total} packages can be read")


def _count(directory: str) -> int:
    """Count the packages in the database, including those that librpm skips. Raises sqlite3.Error."""
    # as librpm opens it: a read-only directory has no room for a write-ahead log
    option = "mode=ro" if os.access(directory, os.W_OK) else "immutable=1"
    uri = f"file:{quote(os.path.abspath(directory))}/{_FILE}?{option}"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        (found,) = database.execute("SELECT count(*) FROM Packages").fetchone()
    return int(found)


def packages_of(manifests: Sequence[PackageManifest], reporter: Reporter) -> tuple[InstalledPackage, ...]:
    """Describe packages as a database would once they are installed, in the given order."""
    return child.call(_describe, tuple(manifest.header for manifest in manifests), reporter, crash=_crash)


def _describe(headers: tuple[bytes, ...], reporter: Reporter) -> tuple[InstalledPackage, ...]:
    del reporter
    return tuple(_package(rpm.hdr(header)) for header in headers)


def _package(header: Any) -> InstalledPackage:
    """Convert an rpm.hdr."""
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
            ChangelogEntry(time=time, author=text_of(author), text=text_of(text)) for time, author, text in changes
        ),
        license=text_of(header["license"]),
        vendor=text_of(header["vendor"]),
        url=text_of(header["url"]),
        summary=text_of(header["summary"]),
    )
