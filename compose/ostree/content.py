"""Write content objects, that is regular files and symlinks, that the repository does not have yet.

Regular files are written on all cores (compose.ostree.workers), symlinks meanwhile in this process.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields

from compose import fs
from compose.errors import RepositoryError
from compose.ostree import worker
from compose.ostree.config import Mode
from compose.ostree.memo import ContentMemo
from compose.ostree.objects import (
    OSTREEMETA,
    Xattrs,
    bare_user_mode,
    encode_dirmeta,
    encode_xattrs,
    file_header,
    filez_header,
    object_name,
)
from compose.ostree.presence import Presence
from compose.ostree.workers import write_regular
from compose.values import value

_NOT_SHARED = None, None
_LARGE = 1 << 20
"""Size in bytes from which files are written first, so that no core is left alone with one at the end. The others are written
in the order given, so that all files of a directory are known at about the same time."""


@value
class Content:
    """One content object to write: a regular file read from `path`, or a symlink with `target`.

    mode: full st_mode. xattrs: to store, whatever the file has. size: bytes, for sharing out the work and for progress; 0 for a
    symlink. digest: sha256 of the file's contents, 64 hex digits, "" if unknown; of several files with one digest, owner, mode
    and xattrs only one is read, and the memo needs it. hashed: the digest has just been computed, and need not be verified.
    """

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs
    path: str | None = None
    target: str | None = None
    size: int = 0
    digest: str = ""
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class ContentStats:
    """objects: number of objects, without duplicates; written: those that were missing; known: those that were present and
    whose files were not read. bytes_hashed: read from files; bytes_deflated: of those, deflated; bytes_written: size of the new
    objects' files."""

    objects: int = 0
    written: int = 0
    known: int = 0
    bytes_hashed: int = 0
    bytes_deflated: int = 0
    bytes_written: int = 0

    def __add__(self, other: ContentStats) -> ContentStats:
        return ContentStats(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class Target:
    """Where objects are written.

    objects: the objects directory of the repository, which is only searched; presence: what is in it. staging: directory to
    write to; lock: descriptor of its lock. direct: do large files bypass the page cache? Only if they are not deflated. level:
    of deflate, None for the default. spools: files with streams deflated ahead; streams: those streams, by sha256 of the
    contents, 64 hex digits.
    """

    mode: Mode
    objects: str
    presence: Presence
    staging: str
    lock: int
    direct: bool
    level: int | None
    spools: Sequence[str] = ()
    streams: Mapping[str, worker.Stream] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        return f".{self.mode.content_extension}"


class _Owners:
    """Computes what all content objects with the same owner, mode and xattrs have in common, once."""

    def __init__(self, mode: Mode) -> None:
        self._bare = mode is Mode.BARE
        self._numbers: dict[Xattrs, dict[tuple[int, int, int], int]] = {}
        # the same by id(), because most files share these tuples, and hashing them takes longer than everything else here
        self._shared: dict[int, tuple[Xattrs, dict[tuple[int, int, int], int]]] = {}
        self.attributes: list[worker.Attributes] = []

    def number(self, content: Content) -> int:
        """Index into attributes of its owner, mode and xattrs."""
        _, numbers = self._shared.get(id(content.xattrs), _NOT_SHARED)
        if numbers is None:
            numbers = self._numbers.setdefault(content.xattrs, {})
            self._shared[id(content.xattrs)] = content.xattrs, numbers
        owner = content.uid, content.gid, content.mode
        number = numbers.get(owner)
        if number is None:
            number = numbers[owner] = len(self.attributes)
            self.attributes.append(self._attributes(*owner, content.xattrs))
        return number

    def _attributes(self, uid: int, gid: int, mode: int, given: Xattrs) -> worker.Attributes:
        xattrs = encode_xattrs(given)
        filez = filez_header(0, uid, gid, mode, b"", xattrs)
        header, meta = file_header(uid, gid, mode, b"", xattrs), encode_dirmeta(uid, gid, mode, xattrs)
        inode: worker.Inode = (-1, -1, bare_user_mode(mode), [(OSTREEMETA.encode(), meta)])
        if self._bare:
            inode = (uid, gid, mode & 0o7777, list(given))
        return header, filez[:8], filez[16:], inode

    def header(self, number: int) -> bytes:
        """What is hashed before the contents of a regular file. number: from number()."""
        return self.attributes[number][0]


@dataclass(frozen=True, slots=True)
class _Object:
    """places: indices into the list of contents. owner: from _Owners.number(). checksum: 32 bytes, None if unknown."""

    places: list[int]
    owner: int
    checksum: bytes | None


def write_contents(
    contents: Sequence[Content],
    target: Target,
    jobs: int,
    on_known: Callable[[Iterable[tuple[int, bytes]]], None],
    on_progress: Callable[[int, int], None],
    memo: ContentMemo | None = None,
) -> ContentStats:
    """Write the contents that the repository does not have, with `jobs` processes.

    on_known(pairs of an index into contents and a checksum, 32 bytes) and on_progress(objects, bytes) are called from several
    threads, on_known never concurrently.

    Raises StorageError if a file cannot be read or changes meanwhile, or if an object cannot be written, RepositoryError if a
    file is not regular, or if a worker dies, DamagedContentError if a file does not have the digest that its Content names.
    """
    owners, archive = _Owners(target.mode), target.mode is Mode.ARCHIVE
    objects = [
        _Object(places, owner, _known(contents[places[0]], owners.header(owner), memo))
        for owner, places in _distinct(contents, owners)
    ]
    present, symlinks, regular = _divided(objects, contents, target)
    on_known([(place, each.checksum) for each in (*present, *symlinks) if each.checksum for place in each.places])
    on_progress(len(present), sum(contents[each.places[0]].size for each in present))
    total = ContentStats(objects=len(present), known=len(present))

    def take(places: range, answers: list[worker.Written]) -> None:
        nonlocal total
        learned: list[tuple[int, bytes]] = []
        for place, (checksum, _, _) in zip(places, answers, strict=True):
            each = regular[place]
            learned += [(index, checksum) for index in each.places]
            if memo is not None and (digest := contents[each.places[0]].digest):
                memo.put(owners.header(each.owner), bytes.fromhex(digest), checksum)
        new = [row for row in answers if row[2] >= 0]
        hashed = sum(row[1] for row in answers)
        total += ContentStats(
            objects=len(answers),
            written=len(new),
            bytes_hashed=hashed,
            bytes_deflated=sum(row[1] for row in new) if archive else 0,
            bytes_written=sum(row[2] for row in new),
        )
        on_known(learned)
        on_progress(len(answers), hashed)

    written = ContentStats()

    def write_symlinks() -> None:
        nonlocal written
        sizes = [_write_symlink(contents[each.places[0]], each.checksum or b"", target) for each in symlinks]
        written = ContentStats(objects=len(sizes), written=len(sizes), bytes_written=sum(sizes))
        on_progress(len(sizes), 0)

    write_regular(
        [_job(contents[each.places[0]], each.owner, target) for each in regular],
        (archive, target.direct, target.objects, target.staging, target.level, owners.attributes, list(target.spools)),
        target.lock,
        jobs,
        take,
        meanwhile=write_symlinks,
    )
    return total + written


def _divided(
    objects: Sequence[_Object], contents: Sequence[Content], target: Target
) -> tuple[list[_Object], list[_Object], list[_Object]]:
    """Those that the repository has, symlinks to write, and regular files to read, in the order in which to write them."""
    there = target.presence.content((each.checksum for each in objects if each.checksum is not None), target.suffix)
    present: list[_Object] = []
    symlinks: list[_Object] = []
    regular: list[_Object] = []
    for each in objects:
        if each.checksum in there:
            present.append(each)
        elif contents[each.places[0]].target is not None:
            symlinks.append(each)
        else:
            regular.append(each)
    regular.sort(key=lambda each: _sort_key(contents[each.places[0]].size))
    return present, symlinks, regular


def _sort_key(size: int) -> int:
    """Sort key of a file of this size."""
    return -size if size >= _LARGE else 0


def _job(content: Content, owner: int, target: Target) -> tuple[int, worker.Job]:
    expected = "" if content.hashed else content.digest
    return content.size, (content.path or "", owner, expected, target.streams.get(content.digest))


def _distinct(contents: Sequence[Content], owners: _Owners) -> Iterable[tuple[int, list[int]]]:
    """Owner number of each object, and the indices of all contents that are this object. Raises RepositoryError for a mode that
    is neither a regular file's nor a symlink's."""
    found: dict[tuple[int, str | None, str | None], list[int]] = {}
    for index, content in enumerate(contents):
        target = content.target
        if stat.S_IFMT(content.mode) != (stat.S_IFREG if target is None else stat.S_IFLNK):
            what = f"a symlink to {target}" if target is not None else content.path
            raise RepositoryError(f"{what} has mode {content.mode:o}, which is of another type")
        found.setdefault((owners.number(content), target, content.digest or content.path), []).append(index)
    return [(key[0], places) for key, places in found.items()]


def _known(content: Content, header: bytes, memo: ContentMemo | None) -> bytes | None:
    """Checksum of a symlink, or of a file that the memo knows. header: of a file with its owner, mode and xattrs."""
    if content.target is not None:
        return hashlib.sha256(
            file_header(content.uid, content.gid, content.mode, content.target.encode(), encode_xattrs(content.xattrs))
        ).digest()
    return memo.get(header, bytes.fromhex(content.digest)) if memo is not None and content.digest else None


def _write_symlink(content: Content, checksum: bytes, target: Target) -> int:
    """Returns the number of bytes written."""
    assert content.target is not None
    text, xattrs = content.target.encode(), encode_xattrs(content.xattrs)
    path = f"{target.staging}/{object_name(checksum.hex(), target.mode.content_extension)}"
    with fs.storage_errors(target.staging):
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o777)
        if target.mode is Mode.BARE:
            os.symlink(text, path)
            os.chown(path, content.uid, content.gid, follow_symlinks=False)
            for key, value in content.xattrs:
                os.setxattr(path, key, value, follow_symlinks=False)
            return len(text)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if target.mode is Mode.ARCHIVE:
                data = filez_header(0, content.uid, content.gid, content.mode, text, xattrs)
            else:
                # in a bare-user repository a symlink is a file that contains its target, NUL-terminated
                data = text + b"\0"
            os.fchmod(fd, 0o644)
            fs.write_all(fd, data)
            if target.mode is Mode.BARE_USER:
                meta = encode_dirmeta(content.uid, content.gid, content.mode, xattrs)
                os.setxattr(fd, OSTREEMETA, meta)
                os.utime(fd, ns=(0, 0))
        finally:
            os.close(fd)
    return len(data)
