"""RPM files made by hand, so that each field can lie: what rpmbuild refuses to build, an attacker does not.

Format: docs/manual/format_v4.md of rpm: lead, signature header, header, compressed cpio archive.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zstandard

INT16, INT32, INT64, STRING, BINARY, STRINGS = 3, 4, 5, 6, 7, 8
_WIDTH = {INT16: ">H", INT32: ">I", INT64: ">Q"}
_REGION_SIGNATURES, _REGION_IMMUTABLE = 62, 63
_MAGIC = b"\x8e\xad\xe8\x01\0\0\0\0"

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "": lambda data: data,
}

Tag = tuple[int, Any]


@dataclass
class Member:
    """A file: what the header says, and what the archive says where that differs (archive_*)."""

    path: str
    content: bytes = b""
    mode: int = stat.S_IFREG | 0o644
    target: str = ""
    user: str = "root"
    group: str = "root"
    mtime: int = 1_700_000_000
    flags: int = 0
    caps: str = ""
    lang: str = ""
    color: int = 0
    inode: int | None = None
    digest: str | None = None
    size: int | None = None
    in_archive: bool = True
    in_header: bool = True
    archive_name: bytes | None = None
    archive_mode: int | None = None
    archive_content: bytes | None = None

    def header_size(self) -> int:
        if self.size is not None:
            return self.size
        return len(_encoded(self.target)) if self.target else len(self.content)

    def archived(self) -> bytes:
        if self.archive_content is not None:
            return self.archive_content
        return _encoded(self.target) if self.target else self.content


def _encoded(text: str) -> bytes:
    """As Python reads bytes that are no UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def directory(path: str, **changes: Any) -> Member:
    return Member(path, mode=stat.S_IFDIR | 0o755, **changes)


def symlink(path: str, target: str, **changes: Any) -> Member:
    return Member(path, mode=stat.S_IFLNK | 0o777, target=target, **changes)


def _unchanged(data: bytes) -> bytes:
    return data


@dataclass
class RpmMaker:
    """A package; `build()` gives the bytes of the file."""

    members: list[Member] = field(default_factory=list)
    name: str = "nasty"
    version: str = "1.0"
    release: str = "1"
    arch: str = "noarch"
    compressor: str = "zstd"
    stripped: bool = False
    digest_number: int = 8
    digest_name: str = "sha256"
    # tag -> (type, value), None to leave a tag out
    tags: dict[int, Tag | None] = field(default_factory=dict)
    signature_tags: dict[int, Tag] = field(default_factory=dict)
    change_archive: Callable[[bytes], bytes] = _unchanged
    change_payload: Callable[[bytes], bytes] = _unchanged
    # applied after the digest of the payload went into the header
    change_file: Callable[[bytes], bytes] = _unchanged

    def build(self) -> bytes:
        archive = self.change_archive(self.archive())
        payload = self.change_payload(COMPRESSORS[self.compressor](archive))
        header = encode_header(self.header_tags(payload), _REGION_IMMUTABLE)
        signature = encode_header(
            {
                269: (STRING, hashlib.sha1(header).hexdigest()),
                273: (STRING, hashlib.sha256(header).hexdigest()),
                1000: (INT32, [len(header) + len(payload)]),
                1004: (BINARY, hashlib.md5(header + payload).digest()),
            }
            | self.signature_tags,
            _REGION_SIGNATURES,
        )
        signature += b"\0" * (-len(signature) % 8)
        lead = struct.pack(">4sBBHH66sHH16s", b"\xed\xab\xee\xdb", 3, 0, 0, 1, self.name.encode(), 1, 5, b"")
        return self.change_file(lead + signature + header + payload)

    def listed(self) -> list[Member]:
        return [member for member in self.members if member.in_header]

    def archive(self) -> bytes:
        out = bytearray()
        for number, member in enumerate(self.members):
            if member.in_archive:
                self._add(out, member, number)
        if self.stripped:
            out += newc_header(b"TRAILER!!!", 0, 0)
        else:
            out += newc_entry(b"TRAILER!!!", 0, b"")
        return bytes(out)

    def _add(self, out: bytearray, member: Member, number: int) -> None:
        if self.stripped:
            out += b"07070X%08x" % number
            out += b"\0" * (-len(out) % 4)
            out += member.archived()
            out += b"\0" * (-len(out) % 4)
            return
        name = member.archive_name
        if name is None:
            name = b"." + _encoded(member.path)
        mode = member.mode if member.archive_mode is None else member.archive_mode
        out += newc_entry(name, mode, member.archived())

    def header_tags(self, payload: bytes) -> dict[int, Tag]:
        tags: dict[int, Tag | None] = {
            1000: (STRING, self.name),
            1001: (STRING, self.version),
            1002: (STRING, self.release),
            1004: (STRING, "made by hand"),
            1006: (INT32, [1_700_000_001]),
            1009: (INT32, [sum(len(member.content) for member in self.listed()) & 0xFFFFFFFF]),
            1014: (STRING, "none"),
            1021: (STRING, "linux"),
            1022: (STRING, self.arch),
            1044: (STRING, f"{self.name}-{self.version}-{self.release}.src.rpm"),
            1124: (STRING, "cpio"),
            1125: (STRING, self.compressor) if self.compressor else None,
            5011: (INT32, [self.digest_number]),
            5092: (STRINGS, [hashlib.sha256(payload).hexdigest()]),
            5093: (INT32, [8]),
        }
        if self.listed():
            tags |= self._file_tags()
        tags |= self.tags
        return {tag: value for tag, value in tags.items() if value is not None}

    def _file_tags(self) -> dict[int, Tag]:
        files = self.listed()
        directories = [file.path.rpartition("/")[0] + "/" for file in files]
        names = list(dict.fromkeys(directories))
        return {
            1028: (INT32, [file.header_size() & 0xFFFFFFFF for file in files]),
            1030: (INT16, [file.mode for file in files]),
            1033: (INT16, [0 for _ in files]),
            1034: (INT32, [file.mtime for file in files]),
            1035: (STRINGS, [self._digest(file) for file in files]),
            1036: (STRINGS, [file.target for file in files]),
            1037: (INT32, [file.flags for file in files]),
            1039: (STRINGS, [file.user for file in files]),
            1040: (STRINGS, [file.group for file in files]),
            1045: (INT32, [0 for _ in files]),
            1095: (INT32, [1 for _ in files]),
            1096: (INT32, [place + 1 if file.inode is None else file.inode for place, file in enumerate(files)]),
            1097: (STRINGS, [file.lang for file in files]),
            1116: (INT32, [names.index(each) for each in directories]),
            1117: (STRINGS, [file.path.rpartition("/")[2] for file in files]),
            1118: (STRINGS, names),
            1140: (INT32, [file.color for file in files]),
            5010: (STRINGS, [file.caps for file in files]),
        }

    def _digest(self, file: Member) -> str:
        if file.digest is not None:
            return file.digest
        if not stat.S_ISREG(file.mode):
            return ""
        return hashlib.new(self.digest_name, file.content).hexdigest()


def newc_header(name: bytes, mode: int, size: int, magic: bytes = b"070701") -> bytes:
    numbers = (1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name) + 1, 0)
    head = magic + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    return head + b"\0" * (-len(head) % 4)


def newc_entry(name: bytes, mode: int, content: bytes, magic: bytes = b"070701") -> bytes:
    return newc_header(name, mode, len(content), magic) + content + b"\0" * (-len(content) % 4)


def encode_header(tags: dict[int, Tag], region: int) -> bytes:
    """A header with its region, as rpm's headerExport() lays it out."""
    index = bytearray()
    data = bytearray()
    for tag, (kind, value) in sorted(tags.items()):
        if kind in _WIDTH:
            data += b"\0" * (-len(data) % struct.calcsize(_WIDTH[kind]))
        offset = len(data)
        count = 1
        if kind == STRING:
            data += _encoded(value) + b"\0"
        elif kind == STRINGS:
            count = len(value)
            data += b"".join(_encoded(each) + b"\0" for each in value)
        elif kind == BINARY:
            count = len(value)
            data += value
        else:
            count = len(value)
            data += b"".join(struct.pack(_WIDTH[kind], each) for each in value)
        index += struct.pack(">IIII", tag, kind, offset, count)
    entries = len(tags) + 1
    first = struct.pack(">IIiI", region, BINARY, len(data), 16)
    data += struct.pack(">IIiI", region, BINARY, -16 * entries, 16)
    return _MAGIC + struct.pack(">II", entries, len(data)) + first + bytes(index) + bytes(data)
