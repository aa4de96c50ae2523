"""The rpm database of a composed tree, written by librpm.

Each header gets what librpm adds when it installs a package (install time, transaction id, state of every file), and
`rpmdb --importdb` makes the database and its indices of them. A transaction with JUSTDB would read every RPM file once
more and date it with the clock. What would differ from one compose to the next is fixed: times are SOURCE_DATE_EPOCH,
and SQLite's file is rewritten whole.
"""

from __future__ import annotations

import os
import re
import sqlite3
import struct
import subprocess
import tempfile
from collections.abc import Container, Sequence
from contextlib import closing
from dataclasses import dataclass

from compose import fs
from compose.errors import AssembleError, ComposeError, StorageError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.header import scripts_of
from compose.rpm.manifest import PackageManifest, Scriptlet, Trigger
from compose.rpm.nevra import Nevra

DATABASE_PATH = "usr/share/rpm"
"""Where image-based systems have it; /var is not part of a commit."""

_HEADER_MAGIC = bytes.fromhex("8eade80100000000")
# SQLite's words for SQLITE_FULL and SQLITE_IOERR
_DISK = re.compile(r"database or disk is full|disk I/O error")
# rpmfileState in rpm's rpmfiles.h
_STATE_NORMAL, _STATE_NOTINSTALLED = 0, 2
_FILESTATES, _CHAR_TYPE = 1029, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """header: of a package. absent: its files that were left out on purpose."""

    header: bytes
    absent: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    records: tuple[_Record, ...]
    epoch: int


def write_database(
    ordered: Sequence[PackageManifest], directory: str, *, absent: Container[str], epoch: int, reporter: Reporter
) -> None:
    """Write rpmdb.sqlite into an empty directory.

    ordered: packages in install order. absent: paths that were not installed on purpose (%doc files of a tree without
    documentation), recorded so. epoch: seconds since 1970. Raises AssembleError when librpm refuses, StorageError when the
    disk does.
    """
    records = tuple(
        _Record(header=manifest.header, absent=frozenset(file.path for file in manifest.files if file.path in absent))
        for manifest in ordered
    )
    stream = child.call(_installed_headers, _Request(records=records, epoch=epoch), reporter, crash=_crash)
    with fs.storage_errors(directory), tempfile.TemporaryFile(dir=directory) as file:
        file.write(stream)
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
        _settle(directory)
    except sqlite3.OperationalError as error:
        raise _refused(directory, str(error)) from error


def _refused(directory: str, words: str) -> StorageError:
    hint = fs.FREE_SPACE if "full" in words else fs.FAILING
    return StorageError(f"cannot write the rpm database in {directory}: {words}", hint=hint)


def _crash(how: str, lines: tuple[str, ...]) -> ComposeError:
    return AssembleError(f"librpm died while reading headers: {how}", details=lines)


def _installed_headers(request: _Request, reporter: Reporter) -> bytes:
    """The headers as an installation leaves them, one after the other, as --exportdb writes them."""
    del reporter
    import rpm

    out = bytearray()
    for record in request.records:
        header = rpm.hdr(record.header)
        header[rpm.RPMTAG_INSTALLTIME] = request.epoch
        header[rpm.RPMTAG_INSTALLTID] = request.epoch
        header[rpm.RPMTAG_INSTALLCOLOR] = 3
        states = bytes(
            _STATE_NOTINSTALLED if name.lstrip("/") in record.absent else _STATE_NORMAL
            for name in header[rpm.RPMTAG_FILENAMES]
        )
        out += _HEADER_MAGIC + _with_file_states(header.unload(), states)
    return bytes(out)


def _with_file_states(blob: bytes, states: bytes) -> bytes:
    """A header with RPMTAG_FILESTATES added, which the Python bindings cannot set, being of type CHAR.

    A header is two counts (index entries, bytes of data), the entries (tag, type, offset, count), the data; all numbers
    big-endian, 32 bits (rpm's docs/manual/format_header.md). An entry of its own may follow the ones signed.
    """
    if not states:
        return blob
    count, size = struct.unpack_from(">II", blob)
    split = 8 + 16 * count
    entry = struct.pack(">IIII", _FILESTATES, _CHAR_TYPE, size, len(states))
    return struct.pack(">II", count + 1, size + len(states)) + blob[8:split] + entry + blob[split:] + states


def _settle(directory: str) -> None:
    """One file, whose bytes depend on its content only: no write-ahead log, pages in order, no lock files."""
    with closing(sqlite3.connect(f"{directory}/rpmdb.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode=DELETE")
        database.execute("VACUUM")
    for name in os.listdir(directory):
        if name != "rpmdb.sqlite":
            os.unlink(f"{directory}/{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangelogEntry:
    """time: seconds since 1970, noon of a day mostly. author: as written, with version and release behind it."""

    time: int
    author: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPackage:
    """What a database tells of a package. size: of its files, bytes. changelog: newest first."""

    nevra: Nevra
    size: int
    source_rpm: str
    scriptlets: tuple[Scriptlet, ...]
    triggers: tuple[Trigger, ...]
    changelog: tuple[ChangelogEntry, ...]


def read_packages(directory: str, reporter: Reporter) -> tuple[InstalledPackage, ...]:
    """The packages of the database in a directory, by NEVRA. Raises AssembleError when librpm refuses it."""
    return child.call(_list_packages, directory, reporter, crash=_crash)


def _list_packages(directory: str, reporter: Reporter) -> tuple[InstalledPackage, ...]:
    import rpm

    del reporter
    rpm.addMacro("_dbpath", directory)
    transaction = rpm.TransactionSet()
    # nothing here was signed; it is read, and nothing of it run
    transaction.setVSFlags(rpm._RPMVSF_NOSIGNATURES)
    found = []
    try:
        for header in transaction.dbMatch():
            if header["name"] == "gpg-pubkey":
                continue
            nevra = Nevra(
                name=header["name"],
                epoch=int(header["epoch"] or 0),
                version=header["version"],
                release=header["release"],
                arch=header["arch"] or "",
            )
            scriptlets, triggers = scripts_of(header, str(nevra))
            changes = zip(header["changelogtime"], header["changelogname"], header["changelogtext"], strict=False)
            found.append(
                InstalledPackage(
                    nevra=nevra,
                    size=int(header["longsize"] or 0),
                    source_rpm=header["sourcerpm"] or "",
                    scriptlets=scriptlets,
                    triggers=triggers,
                    changelog=tuple(ChangelogEntry(time=when, author=by, text=text) for when, by, text in changes),
                )
            )
    except rpm.error as error:
        raise AssembleError(f"the rpm database cannot be read: {error}") from error
    return tuple(sorted(found, key=lambda each: each.nevra))
