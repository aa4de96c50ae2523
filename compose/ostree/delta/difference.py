"""How a new file is made of an old one, when that takes fewer bytes than the file itself."""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compose.ostree.delta import bsdiff, patching
from compose.ostree.delta.layout import PartBuilder, Segment
from compose.ostree.delta.matching import common_segments
from compose.ostree.objects import FileInfo
from compose.ostree.repo import Repo

_OVERHEAD = 48
"""Bytes that naming the old file takes, and that do not get smaller."""
_PER_SEGMENT = 8
_LITTLE = 256
"""Compressed bytes of what is not in the old file, from which on another way may be better."""
_GOOD = 100
"""Of a file's bytes one in so many: a difference of less is not tried to be bettered."""
_NO_FILE = 16
"""Of a file's bytes one in so many: hardly a file is compressed to less, and of such a one any difference is little too."""
_DENSE = 0.95
"""A file that gets no smaller by being compressed is compressed already: bsdiff would find nothing in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file or symlink that the old commit has not. path: one of its paths. size: bytes, of a symlink those of its target.
    stored: bytes of its object in an archive repository, 0 in another."""

    checksum: bytes
    path: str
    info: FileInfo
    size: int
    stored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """source: checksum of the old file. segments: by their places in the new one, at least one."""

    source: bytes
    segments: tuple[Segment, ...]
    size: int

    @property
    def payload(self) -> int:
        """Bytes in a part."""
        return self.size - sum(each.size for each in self.segments) + len(self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patched:
    """source: checksum of the old file. packed: what bspatch reads, by xz. payload: bytes in a part."""

    source: bytes
    packed: bytes
    payload: int


Difference = Copies | Patched


def read_content(repo: Repo, checksum: bytes) -> bytes:
    """The bytes of a regular file. Raises RepositoryError when the object is missing or damaged."""
    with repo.open_content(checksum) as content:
        return b"".join(content.pieces)


def equal_contents(repo: Repo, one: bytes, other: bytes) -> bool:
    """Have two files the same bytes? Memory does not grow with them. Raises RepositoryError."""
    with repo.open_content(one) as first, repo.open_content(other) as second:
        return first.size == second.size and all(
            left == right for left, right in zip(first.pieces, second.pieces, strict=True)
        )


def difference(repo: Repo, file: NewFile, source: bytes, program: bsdiff.Bsdiff | None, most: int) -> Difference | None:
    """The smallest way from an old file to a new one, None when the new one itself is smaller.

    program: None to do without. most: bytes of both together that are held in memory; larger ones are only compared. Raises
    RepositoryError when an object is missing or damaged.
    """
    with repo.open_content(source) as content:
        size = content.size
    if size + file.size > most:
        whole = (Segment(0, 0, file.size),)
        same = size == file.size and equal_contents(repo, source, file.checksum)
        return Copies(source=source, segments=whole, size=file.size) if same else None
    old, new = read_content(repo, source), read_content(repo, file.checksum)
    ways = list(_ways(source, old, new, common_segments(old, new)))
    cost, best = min(ways, key=lambda row: row[0], default=(len(new), None))
    if program is not None and cost >= max(_LITTLE, len(new) // _GOOD) and (ways or _weight(new) < _DENSE * len(new)):
        patch = program.patch(old, new)
        if patch is not None:
            cost, best = min((cost, best), _patched(source, bsdiff.stream_of(patch, len(new))), key=lambda row: row[0])
    if cost < len(new) // _NO_FILE:
        return best
    return best if cost < _weight(new) else None


def _ways(source: bytes, old: bytes, new: bytes, segments: tuple[Segment, ...]) -> Iterator[tuple[int, Difference]]:
    """Each with the bytes that it takes in a part, about."""
    if not segments:
        return
    cost = _weight(_literal(new, segments)) + _OVERHEAD + _PER_SEGMENT * len(segments)
    yield cost, Copies(source=source, segments=segments, size=len(new))
    if cost >= _LITTLE:
        yield _patched(source, patching.patch(old, new, segments))


def add_file(part: PartBuilder, repo: Repo, file: NewFile, how: Difference | None) -> None:
    """Raises RepositoryError when an object is missing or damaged."""
    match how:
        case Copies(source=source, segments=segments):
            whole = sum(each.size for each in segments) == file.size
            data = b"" if whole else read_content(repo, file.checksum)
            part.add_copies(file.checksum, file.info, file.size, source, segments, data)
        case Patched(source=source, packed=packed):
            part.add_patched(file.checksum, file.info, file.size, source, lzma.decompress(packed))
        case None:
            target = file.info.target
            data = read_content(repo, file.checksum) if target is None else target.encode()
            part.add_file(file.checksum, file.info, data)


def payload_of(file: NewFile, how: Difference | None) -> int:
    """Bytes that a file takes of a part's payload."""
    return file.size if how is None else how.payload


def _literal(new: bytes, segments: Sequence[Segment]) -> bytes:
    places = [0, *(each.end for each in segments)]
    begins = [*(each.begin for each in segments), len(new)]
    return b"".join(new[place:begin] for place, begin in zip(places, begins, strict=True))


def _patched(source: bytes, stream: bytes) -> tuple[int, Patched]:
    packed = _packed(stream)
    return len(packed) + _OVERHEAD, Patched(source=source, packed=packed, payload=len(stream) + len(source))


def _weight(data: bytes) -> int:
    """Bytes that they take in a part, about."""
    return len(_packed(data)) if data else 0


def _packed(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)
