"""OSTree objects as bytes: the serialised forms that are hashed and stored.

Formats: ostree-core.h and ostree-repo-*.c of libostree, restated. Numbers inside are big-endian. A checksum is the
sha256 of a metadata object's bytes, or of a content object's header and payload.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compose.ostree.gvariant import Variant, be32, be64, decode, decode_entries, encode, frame

Xattrs = tuple[tuple[bytes, bytes], ...]
"""(name without NUL, value), sorted by name, names unique, no empty value: what `ostree commit` reads from a disk."""

EMPTY_DIRTREE = b"\0"
COMMIT_TYPE = "(a{sv}aya(say)sstayay)"
# the same with the metadata's bytes: they come first, so that their alignment is no matter
_COMMIT_UNREAD_TYPE = "(ayaya(say)sstayay)"
MAX_METADATA_SIZE = 128 << 20
"""Bytes; clients refuse larger metadata objects (OSTREE_MAX_METADATA_SIZE)."""

OSTREEMETA = "user.ostreemeta"
"""Extended attribute of each file in a bare-user repository, with the owner, mode and xattrs of the content object."""

_uid_gid_mode_rdev = struct.Struct(">IIII").pack
_uid_gid_mode = struct.Struct(">III").pack
_size = struct.Struct(">Q").pack
_length_and_padding = struct.Struct(">II").pack


def object_name(checksum: str, extension: str) -> str:
    """Path of an object's file in objects/, "ab/cdef….EXT". checksum: 64 hex digits."""
    return f"{checksum[:2]}/{checksum[2:]}.{extension}"


def bare_user_mode(mode: int) -> int:
    """Permissions of a regular file's file in a bare-user repository, whose user must be able to read it."""
    return mode & 0o775 | 0o400


def encode_xattrs(xattrs: Xattrs) -> bytes:
    """a(ayay), sorted by name. Raises ValueError for what clients refuse: an empty name, or one name twice."""
    if not xattrs:
        return b""
    names = {name for name, _ in xattrs}
    if len(names) < len(xattrs) or b"" in names:
        raise ValueError(f"xattrs {sorted(names)!r} hold an empty name or one name twice")
    elements: list[bytes] = []
    ends: list[int] = []
    position = 0
    for name, value in sorted(xattrs):
        element = frame(name + b"\0" + value, (len(name) + 1,))
        elements.append(element)
        position += len(element)
        ends.append(position)
    return frame(b"".join(elements), ends)


def decode_xattrs(data: bytes) -> Xattrs:
    """Reverse of encode_xattrs(). Raises ValueError."""
    return _xattrs_of(decode("a(ayay)", data))


def _xattrs_of(rows: Iterable[tuple[bytes, bytes]]) -> Xattrs:
    return tuple((name.rstrip(b"\0"), value) for name, value in rows)


def file_header(uid: int, gid: int, mode: int, target: bytes, xattrs: bytes) -> bytes:
    """What precedes a content object's payload in its checksum. mode: full st_mode; target: b"" for a regular file."""
    body = _uid_gid_mode_rdev(uid, gid, mode, 0) + target + b"\0"
    body = frame(body + xattrs, (len(body),))
    return _length_and_padding(len(body), 0) + body


def filez_header(size: int, uid: int, gid: int, mode: int, target: bytes, xattrs: bytes) -> bytes:
    """What precedes the deflated payload in a .filez of an archive repository. size: of the payload, not deflated."""
    body = _size(size) + _uid_gid_mode_rdev(uid, gid, mode, 0) + target + b"\0"
    body = frame(body + xattrs, (len(body),))
    return _length_and_padding(len(body), 0) + body


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a content object says of its file. mode: full st_mode. target: of a symlink, None for a regular file."""

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs
    target: str | None

    def header(self) -> bytes:
        """What precedes the file's bytes in the object's checksum."""
        target = b"" if self.target is None else self.target.encode()
        return file_header(self.uid, self.gid, self.mode, target, encode_xattrs(self.xattrs))


def decode_filez_header(body: bytes) -> tuple[FileInfo, int]:
    """Of filez_header(), without its first 8 bytes: the file, and the bytes of its payload. Raises ValueError."""
    size, uid, gid, mode, device, target, xattrs = decode("(tuuuusa(ayay))", body)
    mode = be32(mode)
    if device:
        raise ValueError("it is a device's")
    check_mode(mode, stat.S_IFREG, stat.S_IFLNK)
    info = FileInfo(
        uid=be32(uid),
        gid=be32(gid),
        mode=mode,
        xattrs=_xattrs_of(xattrs),
        target=target if stat.S_ISLNK(mode) else None,
    )
    return info, be64(size)


def check_mode(mode: int, *kinds: int) -> None:
    """Raise ValueError for a mode that clients refuse (ostree_validate_structureof_file_mode()). kinds: stat.S_IFREG, ..."""
    if stat.S_IFMT(mode) not in kinds or mode & ~0o177777:
        raise ValueError(f"its mode {mode:o} is none that it can have")


def encode_dirmeta(uid: int, gid: int, mode: int, xattrs: bytes) -> bytes:
    """(uuua(ayay)); also the value of user.ostreemeta in a bare-user repository, then with a file's mode."""
    return _uid_gid_mode(uid, gid, mode) + xattrs


@dataclass(frozen=True, slots=True)
class Dirmeta:
    """Owner, mode and xattrs of a directory."""

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs


def decode_dirmeta(data: bytes) -> Dirmeta:
    """Reverse of encode_dirmeta(). Raises ValueError."""
    if len(data) < 12:
        raise ValueError("a dirmeta has at least 12 bytes")
    uid, gid, mode = struct.unpack_from(">III", data)
    return Dirmeta(uid, gid, mode, decode_xattrs(data[12:]))


def encode_dirtree(files: Sequence[tuple[bytes, bytes]], directories: Sequence[tuple[bytes, bytes, bytes]]) -> bytes:
    """files: (name, checksum); directories: (name, dirtree checksum, dirmeta checksum). Both sorted by name as bytes.

    Raises ValueError for what clients refuse: names out of order, twice, not UTF-8, or leading elsewhere.
    """
    for rows in (files, directories):
        before = b""
        for row in rows:
            name = row[0]
            _check_name(name.decode())
            if name <= before:
                raise ValueError(f"the name {name!r} of a directory stands behind {before!r}")
            before = name
    first = _encode_names((name, checksum, (len(name) + 1,)) for name, checksum in files)
    second = _encode_names((name, tree + meta, (len(name) + 33, len(name) + 1)) for name, tree, meta in directories)
    return frame(first + second, (len(first),))


def _encode_names(rows: Iterable[tuple[bytes, bytes, tuple[int, ...]]]) -> bytes:
    elements: list[bytes] = []
    ends: list[int] = []
    position = 0
    for name, checksums, offsets in rows:
        element = frame(name + b"\0" + checksums, offsets)
        elements.append(element)
        position += len(element)
        ends.append(position)
    return frame(b"".join(elements), ends)


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"a dirtree must not hold the name {name!r}")


@dataclass(frozen=True, slots=True)
class Dirtree:
    """Content of a directory: names and checksums (32 bytes each)."""

    files: tuple[tuple[str, bytes], ...]
    directories: tuple[tuple[str, bytes, bytes], ...]


def decode_dirtree(data: bytes) -> Dirtree:
    """Reverse of encode_dirtree(). Raises ValueError; names that would lead elsewhere are damage too."""
    files, directories = decode("(a(say)a(sayay))", data)
    for name in (*(row[0] for row in files), *(row[0] for row in directories)):
        _check_name(name)
    for row in (*files, *directories):
        if any(len(checksum) != 32 for checksum in row[1:]):
            raise ValueError("a dirtree holds a checksum that has not 32 bytes")
    return Dirtree(
        tuple((name, checksum) for name, checksum in files),
        tuple((name, tree, meta) for name, tree, meta in directories),
    )


COLLECTION_BINDING, REF_BINDING = "ostree.collection-binding", "ostree.ref-binding"
COMPOSEFS_DIGEST = "ostree.composefs.digest.v0"
"""Key of commit metadata (ay, 32 bytes): see compose.ostree.composefs."""

Metadata = tuple[tuple[str, Variant], ...]
"""Commit metadata, a{sv}: in the order in which it is serialised, for the order is hashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit object. parent: 32 bytes or b"". timestamp: seconds since 1970. root_tree, root_meta: 32 bytes each."""

    metadata: Metadata
    parent: bytes
    subject: str
    body: str
    timestamp: int
    root_tree: bytes
    root_meta: bytes

    def get(self, key: str) -> Any:
        """Value of a metadata key, None when the commit has none such."""
        for name, variant in self.metadata:
            if name == key:
                return variant.value
        return None


def encode_commit(commit: Commit) -> bytes:
    """Bytes of a commit object. Raises ValueError when clients would refuse its size."""
    data = encode(
        COMMIT_TYPE,
        (
            commit.metadata,
            commit.parent,
            (),
            commit.subject,
            commit.body,
            be64(commit.timestamp),
            commit.root_tree,
            commit.root_meta,
        ),
    )
    if len(data) > MAX_METADATA_SIZE:
        raise ValueError(f"the commit object has {len(data)} bytes, clients accept {MAX_METADATA_SIZE}")
    return data


def decode_commit(data: bytes, keys: Container[str] | None = None) -> Commit:
    """Reverse of encode_commit(). keys: of the metadata that is wanted, None for all. Raises ValueError."""
    raw, parent, _, subject, body, timestamp, tree, meta = decode(_COMMIT_UNREAD_TYPE, data)
    if len(parent) not in (0, 32) or len(tree) != 32 or len(meta) != 32:
        raise ValueError("a commit holds a checksum that has not 32 bytes")
    return Commit(
        metadata=tuple(decode("a{sv}", raw) if keys is None else decode_entries(raw, keys)),
        parent=parent,
        subject=subject,
        body=body,
        timestamp=be64(timestamp),
        root_tree=tree,
        root_meta=meta,
    )
