"""The release of an installed system, for .repo files that are read from there and use $releasever."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import quote

from compose.rpm.rawheader import strings

_DATABASES = ("usr/lib/sysimage/rpm", "usr/share/rpm", "var/lib/rpm")
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_PROVIDED = "system-release(releasever)"
# rpmtag.h
_PROVIDENAME, _PROVIDEVERSION = 1047, 1113
_VERSION_ID = re.compile(r"^VERSION_ID=(['\"]?)(?P<version>[^'\"\s]+)\1\s*$", re.MULTILINE)


def releasever_of(root: str) -> str | None:
    """The release as libdnf finds it for dnf and rpm-ostree: the version of system-release(releasever) that a package provides,
    else VERSION_ID of os-release; None if there is neither. On RHEL the first is 9, and VERSION_ID 9.4."""
    for directory in _DATABASES:
        path = os.path.join(root, directory, "rpmdb.sqlite")
        # whatever is wrong with the database: it is not that of the compose
        with suppress(OSError, sqlite3.Error, struct.error):
            if found := next(_provided(path), None):
                return found
    for name in _OS_RELEASE:
        with suppress(OSError, UnicodeDecodeError), open(os.path.join(root, name), encoding="utf-8") as file:
            if match := _VERSION_ID.search(file.read()):
                return match["version"]
    return None


def _provided(path: str) -> Iterator[str]:
    """The versions of _PROVIDED in a database. Read without librpm, whose state is global, and without writing beside it."""
    with closing(sqlite3.connect(f"file:{quote(os.path.abspath(path))}?immutable=1", uri=True)) as database:
        query = "SELECT blob FROM Packages JOIN Providename USING (hnum) WHERE key = ?"
        for (header,) in database.execute(query, (_PROVIDED,)):
            provides = zip(strings(header, _PROVIDENAME), strings(header, _PROVIDEVERSION), strict=False)
            yield from (version for name, version in provides if name == _PROVIDED and version)
