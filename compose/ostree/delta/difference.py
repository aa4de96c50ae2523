"""How a new file is made of an old one, when that takes fewer bytes than the file itself."""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compose import fs
from compose.ostree.delta import bsdiff, patching
from compose.ostree.delta.layout import PartBuilder, Segment
from compose.ostree.delta.matching import common_segments
from compose.ostree.delta.pairs import OldFile
from compose.ostree.delta.threads import Check, checked
from compose.ostree.objects import FileInfo
from compose.ostree.repo import Repo

_OVERHEAD = 48
"""Bytes that naming the old file takes; a checksum does not compress."""
_PER_SEGMENT = 8
"""Bytes of its operations."""
_LITTLE = 256
"""Compressed bytes; a difference that takes less is good enough."""
_GOOD = 100
"""The same by the file's size: a hundredth of it."""
_NO_FILE = 16
"""Hardly any file compresses to less than this fraction of its size: a smaller difference is taken without trying."""
_DENSE = 0.95
"""Bytes that xz leaves larger than this part of them are compressed already: neither kind of patch would gain anything."""
_PER_COMPARED = 4
"""Bytes of memory for each byte of two files that are compared."""
_STREAMED = 8 * fs.CHUNK
"""Bytes of memory for two files that are compared piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file or symlink that the old commit lacks. path: one of its paths. size: bytes, of a symlink those of its target.
    stored: bytes of its object in an archive repository, 0 in another."""

    checksum: bytes
    path: str
    info: FileInfo
    size: int
    stored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """A file that has runs of an old one. source: checksum of that. segments: at least one, by their places in the new file."""

    source: bytes
    segments: tuple[Segment, ...]
    size: int

    @property
    def payload(self) -> int:
        """Bytes in a part."""
        return self.size - self._copied + len(self.source)

    @property
    def is_whole(self) -> bool:
        """Does the old file have all of it?"""
        return self._copied == self.size

    @property
    def _copied(self) -> int:
        return sum(each.size for each in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patched:
    """A file that bspatch makes of an old one. source: checksum of that. packed: the patch, compressed by xz. payload: bytes in
    a part."""

    source: bytes
    packed: bytes
    payload: int


Difference = Copies | Patched


def read_content(repo: Repo, checksum: bytes, check: Check) -> bytes:
    """The bytes of a regular file. Raises RepositoryError when the object is missing or damaged, Cancelled."""
    with repo.open_content(checksum) as content:
        return b"".join(checked(content.pieces, check))


def equal_contents(repo: Repo, one: bytes, other: bytes, check: Check) -> bool:
    """Do two regular files hold the same bytes? Memory does not grow with them. Raises RepositoryError, Cancelled."""
    with repo.open_content(one) as first, repo.open_content(other) as second:
        return first.size == second.size and _equal_streams(checked(first.pieces, check), second.pieces)


def _equal_streams(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    """Where a piece ends depends on how its object was compressed."""
    left = right = b""
    while True:
        left, right = left or next(one, b""), right or next(other, b"")
        size = min(len(left), len(right))
        if not size:
            return left == right
        if left[:size] != right[:size]:
            return False
        left, right = left[size:], right[size:]


def memory_to_compare(file: NewFile, source: OldFile, program: bsdiff.Bsdiff | None, most: int) -> int:
    """Bytes that difference() takes, about."""
    if file.size + source.size > most:
        return _STREAMED
    compared = _PER_COMPARED * (file.size + source.size)
    return compared if program is None else max(compared, bsdiff.memory(source.size, file.size))


def difference(
    repo: Repo, file: NewFile, source: OldFile, program: bsdiff.Bsdiff | None, most: int, check: Check
) -> Difference | None:
    """The smallest description of a new file in terms of an old one, None when the new file itself is no larger.

    program: None to do without. most: bytes of both files together that are held in memory; larger ones are only tested for
    being equal. Raises RepositoryError when an object is missing or damaged, Cancelled.
    """
    if source.size + file.size > most:
        same = source.size == file.size and equal_contents(repo, source.checksum, file.checksum, check)
        whole = (Segment(0, 0, file.size),)
        return Copies(source=source.checksum, segments=whole, size=file.size) if same else None
    old, new = read_content(repo, source.checksum, check), read_content(repo, file.checksum, check)
    segments = common_segments(old, new, check)
    literal = _literal(new, segments)
    weight = _weight(literal, check)
    dense = weight >= _DENSE * len(literal)
    ways: list[tuple[int, Difference]] = []
    if segments:
        cost = weight + _OVERHEAD + _PER_SEGMENT * len(segments)
        ways.append((cost, Copies(source=source.checksum, segments=segments, size=len(new))))
        if cost >= _LITTLE and not dense:
            ways.append(_patched(source.checksum, patching.patch(old, new, segments, check), check))
    cost = min((cost for cost, _ in ways), default=len(new))
    if program is not None and cost >= max(_LITTLE, len(new) // _GOOD) and not dense:
        # slow: minutes for a large file
        patch = program.patch(old, new)
        if patch is not None:
            ways.append(_patched(source.checksum, patch, check))
    if not ways:
        return None
    cost, best = min(ways, key=lambda row: row[0])
    if cost < len(new) // _NO_FILE:
        return best
    return best if cost < (_weight(new, check) if segments else weight) else None


def add_file(part: PartBuilder, repo: Repo, file: NewFile, how: Difference | None, check: Check) -> None:
    """Raises RepositoryError when an object is missing or damaged, Cancelled."""
    match how:
        case Copies(source=source, segments=segments):
            data = b"" if how.is_whole else read_content(repo, file.checksum, check)
            part.add_copies(file.checksum, file.info, file.size, source, segments, data)
        case Patched(source=source, packed=packed):
            part.add_patched(file.checksum, file.info, file.size, source, lzma.decompress(packed))
        case None:
            target = file.info.target
            data = read_content(repo, file.checksum, check) if target is None else target.encode()
            part.add_file(file.checksum, file.info, data)


def payload_of(file: NewFile, how: Difference | None) -> int:
    """Bytes that a file takes of a part's payload."""
    return file.size if how is None else how.payload


def memory_to_add(file: NewFile, how: Difference | None) -> int:
    """Bytes that add_file() takes beside the part."""
    match how:
        case Copies():
            # in pieces, then joined
            return 0 if how.is_whole else 2 * file.size
        case Patched():
            return how.payload
        case None:
            return 2 * file.size


def _literal(new: bytes, segments: Sequence[Segment]) -> bytes:
    places = [0, *(each.end for each in segments)]
    begins = [*(each.begin for each in segments), len(new)]
    return b"".join(new[place:begin] for place, begin in zip(places, begins, strict=True))


def _patched(source: bytes, stream: bytes, check: Check) -> tuple[int, Patched]:
    packed = _packed(stream, check)
    return len(packed) + _OVERHEAD, Patched(source=source, packed=packed, payload=len(stream) + len(source))


def _weight(data: bytes, check: Check) -> int:
    """Bytes that they take in a part, about."""
    return len(_packed(data, check)) if data else 0


def _packed(data: bytes, check: Check) -> bytes:
    packer = lzma.LZMACompressor(preset=0)
    out = [packer.compress(piece) for piece in checked(fs.slices(data), check)]
    return b"".join([*out, packer.flush()])
