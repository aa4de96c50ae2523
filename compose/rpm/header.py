"""Reader of RPM headers: converts an rpm.hdr to our own values, and refuses files that no tree can hold.

Tags and their meaning: rpm's rpmtag.h and docs/manual/tags.md.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import rpm

from compose.errors import PackageError
from compose.rpm.capabilities import capability_xattr
from compose.rpm.manifest import (
    FileFlag,
    Script,
    ScriptKind,
    Scriptlet,
    Trigger,
    TriggerCondition,
    TriggerKind,
    file_flag,
)
from compose.rpm.nevra import Nevra
from compose.values import value

# Limits of the kernel: NAME_MAX, and PATH_MAX without its NUL.
_MAX_COMPONENT = 255
_MAX_PATH = 4095
# Bytes before the signature itself: struct signature_v2_hdr of the kernel (security/integrity/integrity.h).
_IMA_HEADER = 9
# Size limit of an xattr.
_MAX_IMA = 65536

# Values of RPMTAG_FILEDIGESTALGO (RFC 9580 section 9.5), as hashlib names them.
_DIGESTS = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224", 12: "sha3_256", 14: "sha3_512"}
_MD5 = 1
_GHOST = FileFlag.GHOST.value

# RPMTAG_PAYLOADSHA256, PAYLOADSHA512, PAYLOADSHA3_256: by number because RPM 4 calls the first one PAYLOADDIGEST.
_PAYLOAD_DIGEST_TAGS = {5092: "sha256", 5121: "sha512", 5123: "sha3_256"}

_SCRIPT_EXPAND = 1 << 0
_SCRIPT_QFORMAT = 1 << 1

_SCRIPTLET_TAGS = {
    ScriptKind.PRETRANS: "PRETRANS",
    ScriptKind.PRE: "PREIN",
    ScriptKind.POST: "POSTIN",
    ScriptKind.PREUN: "PREUN",
    ScriptKind.POSTUN: "POSTUN",
    ScriptKind.POSTTRANS: "POSTTRANS",
    ScriptKind.PREUNTRANS: "PREUNTRANS",
    ScriptKind.POSTUNTRANS: "POSTUNTRANS",
    ScriptKind.VERIFY: "VERIFYSCRIPT",
}

# The RPMSENSE_TRIGGER* bits in a condition's flags say when the trigger fires, the tag family says what it watches.
_SENSE_IN, _SENSE_UN, _SENSE_POSTUN, _SENSE_PREIN = 1 << 16, 1 << 17, 1 << 18, 1 << 25
_SENSES = _SENSE_IN | _SENSE_UN | _SENSE_POSTUN | _SENSE_PREIN
_DEFAULT_PRIORITY = 1_000_000
_TRIGGER_TAGS = {
    "TRIGGER": {
        _SENSE_PREIN: TriggerKind.PREIN,
        _SENSE_IN: TriggerKind.IN,
        _SENSE_UN: TriggerKind.UN,
        _SENSE_POSTUN: TriggerKind.POSTUN,
    },
    "FILETRIGGER": {
        _SENSE_IN: TriggerKind.FILE_IN,
        _SENSE_UN: TriggerKind.FILE_UN,
        _SENSE_POSTUN: TriggerKind.FILE_POSTUN,
    },
    "TRANSFILETRIGGER": {
        _SENSE_IN: TriggerKind.TRANS_FILE_IN,
        _SENSE_UN: TriggerKind.TRANS_FILE_UN,
        _SENSE_POSTUN: TriggerKind.TRANS_FILE_POSTUN,
    },
}

# Allows more than packagers use, but nothing that could be mistaken for a path or an option.
_IDENTITY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~^-]*", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)

_Value = TypeVar("_Value", str, int)


@value
class HeaderFile:
    """One file as listed in the header.

    Fields shared with ManifestFile mean the same. size: of a regular file's content, in bytes. digest: of that content,
    hex, by the package's algorithm; "" for none. inode: device and inode number; files with the same are hard links.
    """

    path: str
    mode: int
    user: str
    group: str
    mtime: int
    flags: FileFlag
    caps: bytes
    target: str | None
    size: int
    digest: str
    inode: tuple[int, int]
    color: int
    lang: str
    ima: bytes
    is_ghost: bool

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageHeader:
    """The header of an RPM file.

    raw: as PackageManifest.header. files: in header order, which the payload's indices refer to. digest: hashlib's name
    for the algorithm of the file digests. compressor: of the payload, "" if not recorded. payload_digest: (hashlib
    name, hex) of the compressed payload, None if the header has none. payload_offset: bytes from the start of the file.
    """

    nevra: Nevra
    source_rpm: str
    build_time: int
    size: int
    raw: bytes
    files: tuple[HeaderFile, ...]
    digest: str
    compressor: str
    payload_digest: tuple[str, str] | None
    payload_offset: int
    scriptlets: tuple[Scriptlet, ...]
    triggers: tuple[Trigger, ...]


def read_header(fd: int, name: str) -> PackageHeader:
    """Read the header of the RPM file open at fd, which must be seekable. name: what messages call the file.

    librpm checks the header's own digests; signatures were checked when the file was fetched. Leaves the offset of fd
    at the payload. Raises PackageError if the file is no binary RPM, is damaged, or lists files that no tree can hold.
    """
    try:
        header = load_header(fd)
    except rpm.error as error:
        raise PackageError(f"{name}: not an RPM, or its header is damaged") from error
    offset = os.lseek(fd, 0, os.SEEK_CUR)
    return parse_header(header, name, offset)


def load_header(fd: int) -> Any:
    """Return the rpm.hdr of the RPM file open at fd, which must be seekable, and leave its offset at the payload.

    librpm checks the header's own digests, but no signature. Raises rpm.error.
    """
    transaction = rpm.TransactionSet()
    transaction.setVSFlags(rpm._RPMVSF_NOSIGNATURES)
    os.lseek(fd, 0, os.SEEK_SET)
    return transaction.hdrFromFdno(fd)


def parse_header(header: Any, name: str, payload_offset: int) -> PackageHeader:
    """Convert an rpm.hdr. Raises PackageError as read_header() does."""
    if header.isSource():
        raise PackageError(f"{name}: is a source package, which cannot be installed")
    try:
        if (payload_format := _string(header, "PAYLOADFORMAT")) not in ("", "cpio"):
            raise _Fault(f"its payload has the unknown format {payload_format!r}")
        return PackageHeader(
            nevra=_nevra(header),
            source_rpm=_string(header, "SOURCERPM"),
            build_time=_number(header, "BUILDTIME"),
            size=_number(header, "LONGSIZE"),
            raw=header.unload(),
            files=_files(header),
            digest=_digest_name(_number(header, "FILEDIGESTALGO") or _MD5),
            compressor=_string(header, "PAYLOADCOMPRESSOR"),
            payload_digest=payload_digest(header),
            payload_offset=payload_offset,
            scriptlets=tuple(_scriptlets(header)),
            triggers=tuple(_triggers(header)),
        )
    except _Fault as fault:
        raise PackageError(f"{name}: {fault}") from fault


def scripts_of(header: Any, name: str) -> tuple[tuple[Scriptlet, ...], tuple[Trigger, ...]]:
    """Return the scriptlets and triggers of an rpm.hdr. Raises PackageError naming the package."""
    try:
        return tuple(_scriptlets(header)), tuple(_triggers(header))
    except _Fault as fault:
        raise PackageError(f"{name}: {fault}") from fault


def nevra_of(header: Any) -> Nevra:
    """Return the NEVRA of an rpm.hdr."""
    return Nevra(
        name=text_of(header["name"]),
        epoch=int(header["epoch"] or 0),
        version=text_of(header["version"]),
        release=text_of(header["release"]),
        arch=text_of(header["arch"]),
    )


def text_of(value: str | None) -> str:
    """Return a text from librpm, "" for None, with U+FFFD for bytes that are not UTF-8.

    Old packages have texts in other encodings, which can be neither decoded nor written out.
    """
    return (value or "").encode(errors="surrogateescape").decode(errors="replace")


class _Fault(Exception):
    """A fault in a header; the message does not name the package."""


def path_fault(path: str) -> str | None:
    """Return why no tree can hold a path, relative to the root; None if one can. "" is the root itself."""
    if not path or _is_ordinary(path):
        return None
    if "\0" in path or "\n" in path:
        return "its name holds a NUL or a newline"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8, which OSTree requires"
    if size > _MAX_PATH:
        return f"its path is longer than {_MAX_PATH} bytes"
    for component in path.split("/"):
        if component in ("", ".", ".."):
            return f"its path has the component {component!r}"
        if len(component.encode()) > _MAX_COMPONENT:
            return f"its name is longer than {_MAX_COMPONENT} bytes"
    return None


def _is_ordinary(path: str) -> bool:
    """Quick check that nearly all paths pass: it takes a tenth of the time of a look at each component."""
    return (
        len(path) <= _MAX_COMPONENT
        and path.isascii()
        and path[0] not in "./"
        and path[-1] != "/"
        and not ("/." in path or "//" in path or "\n" in path or "\0" in path)
    )


def _nevra(header: Any) -> Nevra:
    nevra = nevra_of(header)
    for part in (nevra.name, nevra.version, nevra.release, nevra.arch):
        if not _IDENTITY.fullmatch(part):
            raise _Fault(f"its header has the invalid name, version, release or architecture {part!r}")
    return nevra


def _files(header: Any) -> tuple[HeaderFile, ...]:
    names = _strings(header, "BASENAMES")
    count = len(names)

    def strings(tag: str) -> list[str]:
        return _filled(_strings(header, tag), count, tag, "")

    def numbers(tag: str) -> list[int]:
        return _filled(_numbers(header, tag), count, tag, 0)

    directories = _strings(header, "DIRNAMES")
    # librpm needs them to list the files
    if names and "DIRINDEXES" not in header:
        raise _Fault("its header does not say in which directories its files are")
    sizes = numbers("LONGFILESIZES") if "LONGFILESIZES" in header else numbers("FILESIZES")
    files = []
    seen: set[str] = set()
    columns = zip(
        names, numbers("DIRINDEXES"), numbers("FILEMODES"), strings("FILEUSERNAME"), strings("FILEGROUPNAME"),
        numbers("FILEMTIMES"), numbers("FILEFLAGS"), strings("FILECAPS"), strings("FILELINKTOS"), sizes,
        strings("FILEDIGESTS"), numbers("FILEDEVICES"), numbers("FILEINODES"), numbers("FILECOLORS"),
        strings("FILELANGS"), strings("FILESIGNATURES"), strict=True,
    )  # fmt: skip
    for (
        name, index, mode, user, group, mtime, flags, caps, target, size, digest, device, inode, color, lang, signature,
    ) in columns:  # fmt: skip
        if index >= len(directories):
            raise _Fault(f"file {name!r} is in a directory that its header does not list")
        absolute = directories[index] + name
        path = absolute.removeprefix("/")
        fault = path_fault(path) if absolute.startswith("/") else "its path is not absolute"
        if fault is None and path in seen:
            fault = "it is listed twice"
        seen.add(path)
        file = HeaderFile(
            path=path,
            mode=mode,
            user=user,
            group=group,
            mtime=mtime,
            flags=file_flag(flags),
            caps=_capabilities(absolute, caps) if caps else b"",
            target=target if stat.S_ISLNK(mode) else None,
            size=size,
            digest=digest,
            inode=(device, inode),
            color=color,
            lang=lang,
            ima=_ima(absolute, signature) if signature and stat.S_ISREG(mode) else b"",
            is_ghost=flags & _GHOST != 0,
        )
        fault = fault or _file_fault(file)
        if fault is not None:
            raise _Fault(f"{absolute!r}: {fault}")
        files.append(file)
    _refuse_paths_through_files(files)
    return tuple(files)


def _filled(values: list[_Value], count: int, tag: str, default: _Value) -> list[_Value]:
    """Return one value per file: defaults for an absent tag. Raises _Fault for a tag of another length."""
    if not values:
        return [default] * count
    if len(values) != count:
        raise _Fault(f"its header has {count} files but {len(values)} entries of {tag}")
    return values


def _file_fault(file: HeaderFile) -> str | None:
    kind = stat.S_IFMT(file.mode)
    if not file.path and kind != stat.S_IFDIR:
        return "the root must be a directory"
    if file.is_ghost:
        # never created, so its type does not matter
        return None
    if kind == stat.S_IFREG:
        if file.digest and not _HEX.fullmatch(file.digest):
            return f"its digest {file.digest!r} is not hexadecimal"
        return None
    if kind == stat.S_IFLNK:
        return _target_fault(file.target or "")
    if kind in (stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK):
        return None
    names = {stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket"}
    return f"it is {names.get(kind, 'of no known type')}, which no tree can hold"


def _target_fault(target: str) -> str | None:
    if not target:
        return "it is a symlink without a target"
    if "\n" in target:
        return "its symlink target holds a newline"
    try:
        size = len(target.encode())
    except UnicodeEncodeError:
        return "its symlink target is not UTF-8, which OSTree requires"
    return f"its symlink target is longer than {_MAX_PATH} bytes" if size > _MAX_PATH else None


def _refuse_paths_through_files(files: list[HeaderFile]) -> None:
    """Refuse, say, usr/x/passwd beside a symlink usr/x -> /etc: it would be written elsewhere than its path says."""
    modes = {file.path: file.mode for file in files if not file.is_ghost and not stat.S_ISDIR(file.mode)}
    seen = {""}
    for file in files:
        above = file.path.rpartition("/")[0]
        while above not in seen:
            seen.add(above)
            if above in modes:
                kind = "symlink" if stat.S_ISLNK(modes[above]) else "file"
                raise _Fault(f"'/{file.path}' lies beneath '/{above}', which is a {kind} of the same package")
            above = above.rpartition("/")[0]


def _capabilities(path: str, text: str) -> bytes:
    try:
        return capability_xattr(text)
    except ValueError as error:
        raise _Fault(f"{path!r}: {error}") from error


def _ima(path: str, text: str) -> bytes:
    """Decode a signature by `rpmsign --signfiles`, which records zeros for a file that it does not sign."""
    try:
        signature = bytes.fromhex(text)
    except ValueError as error:
        raise _Fault(f"{path!r}: its IMA signature is not hexadecimal") from error
    if len(signature) > _MAX_IMA:
        raise _Fault(f"{path!r}: its IMA signature is longer than {_MAX_IMA} bytes")
    return signature if any(signature[:_IMA_HEADER]) else b""


def _digest_name(number: int) -> str:
    if number not in _DIGESTS:
        raise _Fault(f"its header uses the unknown digest algorithm {number}")
    return _DIGESTS[number]


def payload_digest(header: Any) -> tuple[str, str] | None:
    """Return (hashlib name, hex) of the compressed payload according to an rpm.hdr, None if it has none."""
    for tag, name in _PAYLOAD_DIGEST_TAGS.items():
        if values := _strings(header, tag):
            return (name, values[0])
    return None


def _scriptlets(header: Any) -> Iterator[Scriptlet]:
    for kind, tag in _SCRIPTLET_TAGS.items():
        interpreter = tuple(_strings(header, f"{tag}PROG"))
        body = _string(header, tag)
        if interpreter or body:
            script = _script(interpreter or ("/bin/sh",), body, _number(header, f"{tag}FLAGS"))
            yield Scriptlet(kind=kind, script=script)


def _script(interpreter: tuple[str, ...], body: str, flags: int) -> Script:
    return Script(
        interpreter=interpreter,
        body=body,
        expand=bool(flags & _SCRIPT_EXPAND),
        qformat=bool(flags & _SCRIPT_QFORMAT),
    )


def _triggers(header: Any) -> Iterator[Trigger]:
    for family, kinds in _TRIGGER_TAGS.items():
        bodies = _strings(header, f"{family}SCRIPTS")
        programs = _strings(header, f"{family}SCRIPTPROG")
        flags = _numbers(header, f"{family}SCRIPTFLAGS") or [0] * len(bodies)
        # package triggers have no priorities
        priorities = [] if family == "TRIGGER" else _numbers(header, f"{family}PRIORITIES")
        priorities = priorities or [_DEFAULT_PRIORITY] * len(bodies)
        if not len(bodies) == len(programs) == len(flags) == len(priorities):
            raise _Fault(f"its {family}SCRIPT tags differ in length")
        conditions = _conditions(header, family, len(bodies))
        for number, (body, program) in enumerate(zip(bodies, programs, strict=True)):
            moments = {condition.flags & _SENSES for condition in conditions[number]}
            kind = kinds.get(moments.pop()) if len(moments) == 1 else None
            if kind is None:
                raise _Fault(f"number {number} of its {family} scripts does not say when it runs")
            yield Trigger(
                kind=kind,
                conditions=tuple(conditions[number]),
                script=_script((program,), body, flags[number]),
                priority=priorities[number],
            )


def _conditions(header: Any, family: str, count: int) -> list[list[TriggerCondition]]:
    """Return the conditions of each of a family's `count` triggers."""
    names = _strings(header, f"{family}NAME")
    versions = _strings(header, f"{family}VERSION")
    senses = _numbers(header, f"{family}FLAGS")
    indices = _numbers(header, f"{family}INDEX")
    if not len(names) == len(versions) == len(senses) == len(indices):
        raise _Fault(f"its {family} tags differ in length")
    found: list[list[TriggerCondition]] = [[] for _ in range(count)]
    for name, version, sense, index in zip(names, versions, senses, indices, strict=True):
        if index >= count:
            raise _Fault(f"one of its {family}INDEX entries refers to no script")
        found[index].append(TriggerCondition(name=name, flags=sense, version=version))
    return found


def _strings(header: Any, tag: str | int) -> list[str]:
    """Return the values of a tag, none if the header lacks it."""
    return _values(header, tag)


def _numbers(header: Any, tag: str | int) -> list[int]:
    return _values(header, tag)


def _string(header: Any, tag: str) -> str:
    """Return the value of a tag, "" if the header lacks it."""
    return next(iter(_strings(header, tag)), "")


def _number(header: Any, tag: str) -> int:
    return next(iter(_numbers(header, tag)), 0)


def _values(header: Any, tag: str | int) -> list[Any]:
    # The bindings return a list, a single value or None. librpm has refused tags of the wrong type already.
    value = header[tag]
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
