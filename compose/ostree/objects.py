"""The serialised forms of OSTree objects, as they are hashed and stored.

The formats are those of libostree (ostree-core.h, ostree-repo-*.c). Numbers are big-endian. A checksum is the sha256 of a
metadata object's bytes, or of a content object's header and payload.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compose.errors import RepositoryError
from compose.ostree.gvariant import Variant, be32, be64, decode, decode_entries, encode, frame

Xattrs = tuple[tuple[bytes, bytes], ...]
"""Pairs of name, without NUL, and value, sorted by name. Names are unique and values are not empty, as in the trees that
`ostree commit` reads from disk."""

COMMIT_TYPE = "(a{sv}aya(say)sstayay)"
# the same with the metadata as bytes, whose alignment does not matter because they come first
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
    """Serialise xattrs, sorted by name: a(ayay). Raises ValueError for what clients refuse: an empty or a repeated name."""
    if not xattrs:
        return b""
    names = {name for name, _ in xattrs}
    if len(names) < len(xattrs) or b"" in names:
        raise ValueError(f"xattrs {sorted(names)!r} have an empty or a repeated name")
    return _encode_rows((name, value, (len(name) + 1,)) for name, value in sorted(xattrs))


def _encode_rows(rows: Iterable[tuple[bytes, bytes, tuple[int, ...]]]) -> bytes:
    """Serialise an array. rows: name, without NUL; what follows it; framing offsets of the row."""
    elements: list[bytes] = []
    ends: list[int] = []
    position = 0
    for name, rest, offsets in rows:
        element = frame(name + b"\0" + rest, offsets)
        elements.append(element)
        position += len(element)
        ends.append(position)
    return frame(b"".join(elements), ends)


def decode_xattrs(data: bytes) -> Xattrs:
    """Inverse of encode_xattrs(). Raises ValueError."""
    return _xattrs_of(decode("a(ayay)", data))


def _xattrs_of(rows: Iterable[tuple[bytes, bytes]]) -> Xattrs:
    return tuple((name.rstrip(b"\0"), value) for name, value in rows)


def file_header(uid: int, gid: int, mode: int, target: bytes, xattrs: bytes) -> bytes:
    """What is hashed before a content object's payload. mode: full st_mode. target: b"" for a regular file. xattrs:
    serialised."""
    body = _uid_gid_mode_rdev(uid, gid, mode, 0) + target + b"\0"
    body = frame(body + xattrs, (len(body),))
    return _length_and_padding(len(body), 0) + body


def filez_header(size: int, uid: int, gid: int, mode: int, target: bytes, xattrs: bytes) -> bytes:
    """What precedes the deflated payload in a .filez of an archive repository. size: of the payload before it is deflated, in
    bytes. Other arguments as of file_header()."""
    body = _size(size) + _uid_gid_mode_rdev(uid, gid, mode, 0) + target + b"\0"
    body = frame(body + xattrs, (len(body),))
    return _length_and_padding(len(body), 0) + body


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """Attributes of a content object. mode: full st_mode. target: of a symlink, None for a regular file."""

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs
    target: str | None

    def header(self) -> bytes:
        """What is hashed before the object's payload. Raises ValueError."""
        target = b"" if self.target is None else self.target.encode()
        return file_header(self.uid, self.gid, self.mode, target, encode_xattrs(self.xattrs))


def decode_filez_header(body: bytes) -> tuple[FileInfo, int]:
    """Inverse of filez_header(), for the bytes after its first 8: attributes, and size of the payload. Raises ValueError."""
    size, uid, gid, mode, device, target, xattrs = decode("(tuuuusa(ayay))", body)
    mode = be32(mode)
    if device:
        raise ValueError("it is the header of a device")
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
    """Raise ValueError for a mode that clients refuse (ostree_validate_structureof_file_mode()). kinds: of file that are
    allowed, stat.S_IFREG and the like."""
    if stat.S_IFMT(mode) not in kinds or mode & ~0o177777:
        raise ValueError(f"its mode {mode:o} is not valid")


def encode_dirmeta(uid: int, gid: int, mode: int, xattrs: bytes) -> bytes:
    """Serialise a dirmeta: (uuua(ayay)). The value of user.ostreemeta is the same, with the mode of the content object. mode:
    full st_mode. xattrs: serialised."""
    return _uid_gid_mode(uid, gid, mode) + xattrs


@dataclass(frozen=True, slots=True)
class Dirmeta:
    """Owner, full st_mode and xattrs of a directory."""

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs


def decode_dirmeta(data: bytes) -> Dirmeta:
    """Inverse of encode_dirmeta(). Raises ValueError."""
    if len(data) < 12:
        raise ValueError("a dirmeta has at least 12 bytes")
    uid, gid, mode = struct.unpack_from(">III", data)
    return Dirmeta(uid, gid, mode, decode_xattrs(data[12:]))


def encode_dirtree(files: Sequence[tuple[bytes, bytes]], directories: Sequence[tuple[bytes, bytes, bytes]]) -> bytes:
    """Serialise a dirtree. files: (name, checksum); directories: (name, dirtree checksum, dirmeta checksum), both sorted by
    name, with checksums of 32 bytes.

    Raises ValueError for names that clients refuse: out of order, repeated, not UTF-8, empty, ., .., or with a slash or NUL.
    """
    for rows in (files, directories):
        before = b""
        for row in rows:
            name = row[0]
            _check_name(name.decode())
            if name <= before:
                raise ValueError(f"a dirtree must not list {name!r} after {before!r}")
            before = name
    first = _encode_rows((name, checksum, (len(name) + 1,)) for name, checksum in files)
    second = _encode_rows((name, tree + meta, (len(name) + 33, len(name) + 1)) for name, tree, meta in directories)
    return frame(first + second, (len(first),))


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"a dirtree must not contain the name {name!r}")


@dataclass(frozen=True, slots=True)
class Dirtree:
    """Contents of a directory, as encode_dirtree() takes them."""

    files: tuple[tuple[str, bytes], ...]
    directories: tuple[tuple[str, bytes, bytes], ...]


def decode_dirtree(data: bytes) -> Dirtree:
    """Inverse of encode_dirtree(). Raises ValueError, also for names that lead out of the directory."""
    files, directories = decode("(a(say)a(sayay))", data)
    for name in (*(row[0] for row in files), *(row[0] for row in directories)):
        _check_name(name)
    for row in (*files, *directories):
        if any(len(checksum) != 32 for checksum in row[1:]):
            raise ValueError("a dirtree contains a checksum that is not 32 bytes long")
    return Dirtree(
        tuple((name, checksum) for name, checksum in files),
        tuple((name, tree, meta) for name, tree, meta in directories),
    )


COLLECTION_BINDING, REF_BINDING = "ostree.collection-binding", "ostree.ref-binding"
COMPOSEFS_DIGEST = "ostree.composefs.digest.v0"
"""Key of commit metadata (ay, 32 bytes). See compose.ostree.composefs."""

Metadata = tuple[tuple[str, Variant], ...]
"""Metadata of a commit (a{sv}), in the order in which it is serialised, because the order is hashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit object. parent: checksum, 32 bytes, or b"". timestamp: seconds since 1970. root_tree, root_meta: checksums of
    the root's dirtree and dirmeta, 32 bytes each."""

    metadata: Metadata
    parent: bytes
    subject: str
    body: str
    timestamp: int
    root_tree: bytes
    root_meta: bytes

    def get(self, key: str) -> Any:
        """Value of a metadata key, None if the commit does not have it. Its type is whatever the commit says."""
        for name, variant in self.metadata:
            if name == key:
                return variant.value
        return None

    def text(self, key: str) -> str | None:
        """Value of a metadata key that is a string; None if the commit does not have it, or has something else."""
        value = self.get(key)
        return value if isinstance(value, str) else None

    @property
    def created(self) -> str:
        """The timestamp as RFC 3339 has it, in UTC. Raises RepositoryError if it is out of range."""
        # imported late, because a compose that changes nothing needs no date
        from datetime import UTC, datetime

        try:
            return datetime.fromtimestamp(self.timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        except (ValueError, OverflowError, OSError) as error:
            raise RepositoryError(f"the timestamp {self.timestamp} of a commit is out of range") from error


def encode_commit(commit: Commit) -> bytes:
    """Serialise a commit. Raises ValueError for a string with a NUL or surrogate, and if clients would refuse the size."""
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
        raise ValueError(f"the commit object has {len(data)} bytes, but clients accept {MAX_METADATA_SIZE}")
    return data


def decode_commit(data: bytes, keys: Container[str] | None = None) -> Commit:
    """Inverse of encode_commit(). keys: of the metadata to decode, None for all. Raises ValueError."""
    raw, parent, _, subject, body, timestamp, tree, meta = decode(_COMMIT_UNREAD_TYPE, data)
    if len(parent) not in (0, 32) or len(tree) != 32 or len(meta) != 32:
        raise ValueError("a commit contains a checksum that is not 32 bytes long")
    return Commit(
        metadata=tuple(decode("a{sv}", raw) if keys is None else decode_entries(raw, keys)),
        parent=parent,
        subject=subject,
        body=body,
        timestamp=be64(timestamp),
        root_tree=tree,
        root_meta=meta,
    )
