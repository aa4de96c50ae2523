"""Raw facts of one RPM, written by the importer and read by later stages.

Nothing here depends on a treefile, a policy or a host: an RPM gives the same manifest everywhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache

from compose.rpm.nevra import Nevra
from compose.tree import BlobRef
from compose.values import value


class FileFlag(enum.IntFlag):
    """Values of RPMTAG_FILEFLAGS (rpmfileAttrs in rpm's rpmfiles.h)."""

    CONFIG = 1 << 0
    DOC = 1 << 1
    NOREPLACE = 1 << 4
    GHOST = 1 << 6
    LICENSE = 1 << 7


@lru_cache
def file_flag(bits: int) -> FileFlag:
    """Return FileFlag(bits), cached: it takes as long to make as the rest of a file, and packages use only a dozen."""
    return FileFlag(bits)


@value
class ManifestFile:
    """One file of a package: metadata from the header, content from the payload.

    path: relative, "usr/bin/bash", UTF-8. mode: full st_mode. user, group: names, not ids. caps: file capabilities
    as the kernel stores them (security.capability, 20 or 24 bytes), b"" for none. target: of a symlink.
    blob: content of a regular file that is in the payload; None for %ghost, directories and symlinks.
    link: hard-link group inside the package, the same number for all names of a file; 0 if it has one name.
    color: ELF colour (1 = 32 bit, 2 = 64 bit, 0 = none). lang: of %lang(), "" for none. ima: signature of the content
    for security.ima, b"" for none.
    """

    path: str
    mode: int
    user: str
    group: str
    mtime: int
    flags: FileFlag
    caps: bytes = b""
    target: str | None = None
    blob: BlobRef | None = None
    link: int = 0
    color: int = 0
    lang: str = ""
    ima: bytes = b""


class ScriptKind(enum.StrEnum):
    """When a scriptlet runs; the value is its name in a spec file, without the percent sign."""

    PRETRANS = "pretrans"
    PRE = "pre"
    POST = "post"
    PREUN = "preun"
    POSTUN = "postun"
    POSTTRANS = "posttrans"
    PREUNTRANS = "preuntrans"
    POSTUNTRANS = "postuntrans"
    VERIFY = "verifyscript"


class TriggerKind(enum.StrEnum):
    """When a trigger fires; the value is its name in a spec file, without the percent sign."""

    PREIN = "triggerprein"
    IN = "triggerin"
    UN = "triggerun"
    POSTUN = "triggerpostun"
    FILE_IN = "filetriggerin"
    FILE_UN = "filetriggerun"
    FILE_POSTUN = "filetriggerpostun"
    TRANS_FILE_IN = "transfiletriggerin"
    TRANS_FILE_UN = "transfiletriggerun"
    TRANS_FILE_POSTUN = "transfiletriggerpostun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A program carried in a header.

    interpreter: argv before the script's own arguments, ("/bin/sh",), ("<lua>",), ("/sbin/ldconfig",). body: "" if the
    interpreter is the whole program. expand, qformat: -e and -q of the spec file (RPMSCRIPT_FLAG_*).
    """

    interpreter: tuple[str, ...]
    body: str
    expand: bool = False
    qformat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scriptlet:
    kind: ScriptKind
    script: Script


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerCondition:
    """name: of a package; for file triggers, a path prefix ("/usr/lib"). flags: RPMSENSE_*. version: "" if none."""

    name: str
    flags: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    kind: TriggerKind
    conditions: tuple[TriggerCondition, ...]
    script: Script
    priority: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageManifest:
    """Everything a compose needs of one RPM once its payload is in the blob store.

    sha256: of the whole RPM file, 64 hex digits. source_rpm: file name, "" if none. build_time: seconds since 1970.
    size: sum of file sizes according to the header, in bytes. header: the immutable header as rpm.hdr(bytes) takes it,
    with signature tags merged as librpm does when it reads the file (this is what the rpmdb must hold).
    files: sorted by path.
    """

    nevra: Nevra
    sha256: str
    source_rpm: str
    build_time: int
    size: int
    header: bytes
    files: tuple[ManifestFile, ...]
    scriptlets: tuple[Scriptlet, ...] = ()
    triggers: tuple[Trigger, ...] = ()
