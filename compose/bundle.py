"""All inputs of a compose in one tar: treefile and its files, keys, lock, packages.

    index.json      size, mode and sha256 of each file, and the caller's own data ("facts")
    PATH...         the files, sorted

The same contents give the same bytes. Only bundles as write() makes them are read: every header must be exactly the one for
the next file of the index, which rules out links, devices and paths outside of the directory. Digests are checked while files
are unpacked, before anything uses them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from compose import fs
from compose.errors import FetchError, UsageError

INDEX = "index.json"
_MARK = "compose-bundle"
_VERSION = 1
_BLOCK = 512
_INDEX_LIMIT = 64 << 20
_DEEPEST = 200  # directories of a path; os.makedirs() recurses
_SIZE_FIELD = slice(124, 136)  # of a ustar header, octal (POSIX pax(1), ustar Interchange Format)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HINT = "create the bundle again: compose fetch TREEFILE --bundle=FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The content of a file to put into a bundle: data, or the path of a file. mode: permission bits."""

    data: bytes | None = None
    path: str | None = None
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of a bundle. path: relative, "treefile/fedora.yaml". size: bytes. mode: permission bits. sha256: 64 hex digits."""

    path: str
    size: int
    mode: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What a bundle holds. members: sorted by path. facts: the caller's own data, as parsed from JSON."""

    members: tuple[Member, ...]
    facts: Mapping[str, Any]

    def names(self, below: str) -> tuple[str, ...]:
        """Return the paths of all files below a directory."""
        return tuple(each.path for each in self.members if each.path.startswith(f"{below}/"))


def write(stream: BinaryIO, files: Mapping[str, Source], facts: Mapping[str, Any]) -> None:
    """Write a bundle. files: by path. facts: the caller's own data, stored as JSON.

    Raises UsageError for an invalid path, StorageError for a file that cannot be read or changes meanwhile, OSError for a
    stream that cannot be written.
    """
    members = tuple(_member(path, files[path]) for path in sorted(files))
    document = {_MARK: _VERSION, "files": [asdict(each) for each in members], **facts}
    index = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
    _append(stream, Member(path=INDEX, size=len(index), mode=0o644, sha256=""), Source(data=index))
    for member in members:
        _append(stream, member, files[member.path])
    stream.write(bytes(2 * _BLOCK))


def unpack(stream: BinaryIO, name: str, directory: str) -> Index:
    """Unpack a bundle below an empty, private directory. name: of the bundle, for messages.

    Raises FetchError if it is damaged or not a bundle, StorageError if the disk refuses.
    """
    header = _read_exactly(stream, _BLOCK, name)
    size = _size_of(header)
    if size is None or header != _header(Member(path=INDEX, size=size, mode=0o644, sha256="")):
        raise FetchError(f"{name} is not a bundle of compose", hint=_HINT)
    if size > _INDEX_LIMIT:
        raise FetchError(f"{name}: its {INDEX} has {size} bytes; at most {_INDEX_LIMIT} are accepted", hint=_HINT)
    index = _decode(_read_exactly(stream, size, name), name)
    _skip_padding(stream, size, name)
    for member in index.members:
        header = _header(member)
        if _read_exactly(stream, len(header), name) != header:
            raise FetchError(f"{name}: the header of {member.path} does not match the index", hint=_HINT)
        _unpack_member(stream, member, name, os.path.join(directory, member.path))
    if stream.read(fs.CHUNK).strip(b"\0"):
        raise FetchError(f"{name}: there is data after its last file", hint=_HINT)
    return index


def _member(path: str, source: Source) -> Member:
    if not _is_plain(path):
        raise UsageError(f"{path!r} is not a valid path in a bundle")
    if source.path is None:
        data = source.data or b""
        size, digest = len(data), hashlib.sha256(data).hexdigest()
    else:
        with fs.read_errors(source.path), open(source.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
    return Member(path=path, size=size, mode=source.mode, sha256=digest)


def _append(stream: BinaryIO, member: Member, source: Source) -> None:
    stream.write(_header(member))
    if source.path is None:
        stream.write(source.data or b"")
    else:
        digest = hashlib.sha256()
        for chunk in _chunks(source.path):
            digest.update(chunk)
            stream.write(chunk)
        if digest.hexdigest() != member.sha256:
            # another compose may have fetched newer metadata
            raise fs.changed(source.path)
    stream.write(bytes(-member.size % _BLOCK))


def _chunks(path: str) -> Iterator[bytes]:
    # not around the yields: what writes the chunks has errors of its own
    with fs.read_errors(path):
        file = open(path, "rb")  # noqa: SIM115, closed below
    with file:
        while True:
            with fs.read_errors(path):
                chunk = file.read(fs.CHUNK)
            if not chunk:
                return
            yield chunk


def _header(member: Member) -> bytes:
    """Return the header blocks, with owner root and mtime 0: one of ustar, preceded by those of pax if the path needs them."""
    info = tarfile.TarInfo(member.path)
    info.size, info.mode = member.size, member.mode
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _size_of(header: bytes) -> int | None:
    text = header[_SIZE_FIELD].rstrip(b"\0 ")
    return int(text, 8) if re.fullmatch(rb"[0-7]{1,11}", text) else None


def _decode(data: bytes, name: str) -> Index:
    try:
        found = json.loads(data)
        if found.pop(_MARK) != _VERSION:
            raise ValueError("it was written by another version of compose")
        members = tuple(Member(**row) for row in found.pop("files"))
        paths = [each.path for each in members]
        if paths != sorted(set(paths)):
            raise ValueError("its files are not sorted")
        for each in members:
            if not _is_plain(each.path):
                raise ValueError(f"{each.path!r} is not a path below it")
            valid = type(each.mode) is type(each.size) is int and not each.mode & ~0o7777 and each.size >= 0
            if not valid or not _DIGEST.fullmatch(each.sha256):
                raise ValueError(f"{each.path}: invalid mode, size or digest")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FetchError(f"{name}: its {INDEX} is damaged: {error}", hint=_HINT) from error
    return Index(members=members, facts=found)


def _is_plain(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        # a surrogate of JSON that stands for no byte of a name
        return False
    parts = path.split("/")
    return "\0" not in path and path != INDEX and len(parts) <= _DEEPEST and not {"", ".", ".."} & set(parts)


def _read_exactly(stream: BinaryIO, count: int, name: str) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise FetchError(f"{name} is truncated, or not a bundle of compose", hint=_HINT)
    return data


def _skip_padding(stream: BinaryIO, size: int, name: str) -> None:
    if _read_exactly(stream, -size % _BLOCK, name).strip(b"\0"):
        raise FetchError(f"{name}: there is data between its files", hint=_HINT)


def _unpack_member(stream: BinaryIO, member: Member, name: str, target: str) -> None:
    digest = hashlib.sha256()
    left = member.size
    with fs.storage_errors(target):
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise FetchError(f"{name}: {member.path} is both a file and a directory", hint=_HINT) from error
        with open(fd, "wb") as file:
            while left:
                chunk = _read_exactly(stream, min(left, fs.CHUNK), name)
                digest.update(chunk)
                file.write(chunk)
                left -= len(chunk)
            os.fchmod(fd, member.mode)
    _skip_padding(stream, member.size, name)
    if digest.hexdigest() != member.sha256:
        raise FetchError(f"{name}: {member.path} is damaged: its sha256 is {digest.hexdigest()}", hint=_HINT)
