"""Static deltas as bytes: names in a repository, the superblock, the parts and what they are made of.

    deltas/T0/T1…/superblock            from nothing; F0/F1…-T for a delta from F to T
    deltas/T0/T1…/0, 1, …               parts
    delta-indexes/T0/T1….index          which deltas lead to T

A commit's checksum is in base64 there, with "_" for "/" and without "=". A client runs the operations of each part: they
build objects of the part's payload and of objects that it has. Formats: ostree-repo-static-delta-private.h and
ostree-repo-static-delta-processing.c of libostree, restated.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from compose.ostree.gvariant import Variant, be32, decode, encode
from compose.ostree.objects import COMMIT_TYPE, FileInfo, encode_xattrs

_SUPERBLOCK_TYPE = f"(a{{sv}}tayay{COMMIT_TYPE}aya(uayttay)a(yaytt))"
# aa(ayay), the xattrs, as aay: each list is passed as its serialised bytes
_PAYLOAD_TYPE = "(a(uuu)aayayay)"
_PART_TYPE = "(yay)"
_SIGNED_TYPE = "(taya{sv})"
_SIGNED_MAGIC = b"OSTSGNDT"
_XZ = ord("x")
_VERSION = 0
_TIMESTAMP = 5
"""Index of a commit's timestamp."""
_LITTLE_ENDIAN = ord("l")


class ObjectType(IntEnum):
    """OstreeObjectType."""

    FILE = 1
    DIRTREE = 2
    DIRMETA = 3

    @property
    def extension(self) -> str:
        """Of the file that has such an object; not for FILE, for which it depends on the repository."""
        return self.name.lower()


class _Operation(IntEnum):
    OPEN_SPLICE_AND_CLOSE = ord("S")
    OPEN = ord("o")
    WRITE = ord("w")
    SET_READ_SOURCE = ord("r")
    UNSET_READ_SOURCE = ord("R")
    CLOSE = ord("c")
    BSPATCH = ord("B")


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes that a new file shares with an old one. begin: its place in the new one; source: in the old one."""

    begin: int
    source: int
    size: int

    @property
    def end(self) -> int:
        return self.begin + self.size


def delta_path(source: str | None, target: str) -> str:
    """Directory of a delta, relative to the repository. source: None for a delta from nothing."""
    name = _short(target) if source is None else f"{_short(source)}-{_short(target)}"
    return f"deltas/{name[:2]}/{name[2:]}"


def index_path(target: str) -> str:
    """File that lists the deltas to a commit, relative to the repository."""
    name = _short(target)
    return f"delta-indexes/{name[:2]}/{name[2:]}.index"


def _short(checksum: str) -> str:
    return base64.b64encode(bytes.fromhex(checksum)).decode().rstrip("=").replace("/", "_")


def ends_of(name: str) -> list[str] | None:
    """Checksums in the name of a delta's directory, without the "/" behind its second letter: source and target, or the target
    alone. None when it is the name of something else."""
    try:
        ends = [base64.b64decode(each.replace("_", "/") + "=", validate=True) for each in name.split("-")]
    except (binascii.Error, ValueError):
        return None
    return [each.hex() for each in ends] if len(ends) <= 2 and all(len(each) == 32 for each in ends) else None


def varint(number: int) -> bytes:
    """Seven bits to a byte, the lowest first (ostree-varint.c)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class PartBuilder:
    """One part, object by object."""

    def __init__(self) -> None:
        self._modes: dict[tuple[int, int, int], int] = {}
        self._xattrs: dict[bytes, int] = {}
        self._payload = bytearray()
        self._operations = bytearray()
        self.objects = bytearray()
        self.size = 0
        """Bytes of its objects, for the client's progress."""

    def add_metadata(self, kind: ObjectType, checksum: bytes, data: bytes) -> None:
        """A dirtree or dirmeta."""
        self._begin(kind, checksum, len(data))
        self._operate(_Operation.OPEN_SPLICE_AND_CLOSE, len(data), self._put(data))

    def add_file(self, checksum: bytes, info: FileInfo, data: bytes) -> None:
        """A file or symlink, whole. data: of a symlink its target."""
        self._begin(ObjectType.FILE, checksum, len(data))
        self._operate(_Operation.OPEN_SPLICE_AND_CLOSE, *self._attributes(info), len(data), self._put(data))

    def add_copies(
        self, checksum: bytes, info: FileInfo, size: int, source: bytes, segments: Sequence[Segment], data: bytes
    ) -> None:
        """A file that has runs of an old one. size: bytes of it. source: checksum of the old one. segments: at least one, by
        their places. data: the new file; only what no segment covers is read."""
        self._begin(ObjectType.FILE, checksum, size)
        self._operate(_Operation.OPEN, *self._attributes(info), size)
        origin, place, reading = self._put(source), 0, False
        for each in (*segments, Segment(size, 0, 0)):
            if place < each.begin:
                if reading:
                    self._operate(_Operation.UNSET_READ_SOURCE)
                reading = False
                self._operate(_Operation.WRITE, each.begin - place, self._put(data[place : each.begin]))
            if each.size:
                if not reading:
                    self._operate(_Operation.SET_READ_SOURCE, origin)
                reading = True
                self._operate(_Operation.WRITE, each.size, each.source)
            place = each.end
        if reading:
            self._operate(_Operation.UNSET_READ_SOURCE)
        self._operate(_Operation.CLOSE)

    def add_patched(self, checksum: bytes, info: FileInfo, size: int, source: bytes, patch: bytes) -> None:
        """A file that bspatch makes of an old one. size: bytes of it. patch: see bsdiff.stream_of()."""
        self._begin(ObjectType.FILE, checksum, size)
        self._operate(_Operation.SET_READ_SOURCE, self._put(source))
        self._operate(_Operation.OPEN, *self._attributes(info), size)
        self._operate(_Operation.BSPATCH, self._put(patch), len(patch))
        self._operate(_Operation.CLOSE)
        self._operate(_Operation.UNSET_READ_SOURCE)

    def finish(self) -> bytes:
        """What is compressed, see encode_part()."""
        modes = [tuple(map(be32, each)) for each in self._modes]
        # of an empty array GVariant gives no address, and libostree aborts when it then meets an empty file
        return encode(_PAYLOAD_TYPE, (modes, list(self._xattrs), self._payload or b"\0", self._operations))

    def _begin(self, kind: ObjectType, checksum: bytes, size: int) -> None:
        self.objects += bytes([kind]) + checksum
        self.size += size

    def _operate(self, operation: _Operation, *arguments: int) -> None:
        self._operations.append(operation)
        for each in arguments:
            self._operations += varint(each)

    def _put(self, data: bytes) -> int:
        place = len(self._payload)
        self._payload += data
        return place

    def _attributes(self, info: FileInfo) -> tuple[int, int]:
        owner = info.uid, info.gid, info.mode
        xattrs = encode_xattrs(info.xattrs)
        return self._modes.setdefault(owner, len(self._modes)), self._xattrs.setdefault(xattrs, len(self._xattrs))


def encode_part(compressed: bytes) -> bytes:
    """The file of a part. compressed: what PartBuilder gives, by xz."""
    return encode(_PART_TYPE, (_XZ, compressed))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHeader:
    """A part as the superblock lists it. checksum, size: sha256 and bytes of its file. unpacked: bytes of its objects. objects:
    33 bytes for each, ObjectType and checksum. data: the file's bytes, of an inline part."""

    checksum: bytes
    size: int
    unpacked: int
    objects: bytes
    data: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """A file that clients fetch as they would without a delta. stored: bytes that they fetch; size: of the file."""

    checksum: bytes
    stored: int
    size: int


def encode_superblock(
    source: str | None,
    target: str,
    commit: bytes,
    detached: bytes,
    parts: Sequence[PartHeader],
    fallbacks: Sequence[Fallback],
) -> bytes:
    """commit: the target's object. detached: its detached metadata, b"" for none.

    Raises ValueError for a commit that is not in GVariant's normal form, which clients refuse.
    """
    path = delta_path(source, target)
    metadata = [("ostree.endianness", Variant("y", _LITTLE_ENDIAN))]
    for number, part in enumerate(parts):
        if part.data is not None:
            metadata.append((f"{path}/{number}", Variant(_PART_TYPE, decode(_PART_TYPE, part.data))))
    if detached:
        metadata.append((f"{path}/commitmeta", Variant("a{sv}", decode("a{sv}", detached))))
    value = decode(COMMIT_TYPE, commit)
    if encode(COMMIT_TYPE, value) != commit:
        raise ValueError("it is not in normal form")
    return encode(
        _SUPERBLOCK_TYPE,
        (
            metadata,
            # dated as the commit and not by the clock: the same delta is the same bytes
            value[_TIMESTAMP],
            bytes.fromhex(source or ""),
            bytes.fromhex(target),
            value,
            b"",
            [(_VERSION, each.checksum, each.size, each.unpacked, each.objects) for each in parts],
            [(ObjectType.FILE, each.checksum, each.stored, each.size) for each in fallbacks],
        ),
    )


def signed_superblock(data: bytes) -> bytes | None:
    """Return the superblock in a file that signs it, (taya{sv}): a magic number, the superblock, and its signatures. None if
    the file is a superblock itself. Raises ValueError if it is damaged."""
    return bytes(decode(_SIGNED_TYPE, data)[1]) if data.startswith(_SIGNED_MAGIC) else None


def replace_detached(superblock: bytes, detached: bytes) -> bytes:
    """Return a superblock with other detached metadata of its commit, b"" for none; the same bytes if it has that already.

    Raises ValueError if one of the two is damaged.
    """
    rows, timestamp, source, target, *others = decode(_SUPERBLOCK_TYPE, superblock)
    key = f"{delta_path(source.hex() or None, target.hex())}/commitmeta"
    wanted = [(key, Variant("a{sv}", decode("a{sv}", detached)))] if detached else []
    if [row for row in rows if row[0] == key] == wanted:
        return superblock
    kept = [row for row in rows if row[0] != key]
    return encode(_SUPERBLOCK_TYPE, ([*kept, *wanted], timestamp, source, target, *others))


def encode_index(deltas: dict[str, bytes]) -> bytes:
    """deltas: sha256 of the superblock by name, as the summary has them."""
    rows = [(name, Variant("ay", digest)) for name, digest in sorted(deltas.items())]
    return encode("a{sv}", [("ostree.static-deltas", Variant("a{sv}", rows))])
