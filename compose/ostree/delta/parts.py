"""Parts: new objects are divided among them, and each part is filled and compressed in a thread of its own."""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Callable, Iterable, Mapping, Sequence

from compose import fs
from compose.ostree.delta.contents import NewMetadata
from compose.ostree.delta.difference import Difference, NewFile, add_file, memory_to_add, payload_of
from compose.ostree.delta.layout import PartBuilder, PartHeader, encode_part
from compose.ostree.delta.threads import Check, checked
from compose.ostree.repo import Repo

_PRESET = 8
"""Of xz, as libostree's."""
_DICTIONARY = 32 << 20
"""Bytes, of this preset."""
_LEAST_DICTIONARY = 4096
_ENCODER = 12
"""Bytes of memory for each byte of the dictionary (xz(1))."""
_COPIES = 4
"""Of a part's bytes that are in memory while it is made."""

Item = NewMetadata | NewFile


def divided(items: Iterable[Item], differences: Mapping[bytes, Difference], most: int) -> list[list[Item]]:
    """The items of each part, in the order given. most: bytes of a part before it is compressed; a single object may have
    more."""
    parts: list[list[Item]] = []
    filled = 0
    for item in items:
        size = _payload(item, differences)
        if not parts or filled + size > most:
            parts.append([])
            filled = 0
        parts[-1].append(item)
        filled += size
    return parts


def worker_memory(parts: Sequence[Sequence[Item]], differences: Mapping[bytes, Difference]) -> int:
    """Bytes of memory that the largest part takes while it is made."""
    largest = max((sum(_payload(each, differences) for each in part) for part in parts), default=0)
    files = (each for part in parts for each in part if isinstance(each, NewFile))
    one_file = max((memory_to_add(each, differences.get(each.checksum)) for each in files), default=0)
    return _COPIES * largest + one_file + _ENCODER * min(_DICTIONARY, max(_LEAST_DICTIONARY, largest))


def _payload(item: Item, differences: Mapping[bytes, Difference]) -> int:
    return payload_of(item, differences.get(item.checksum)) if isinstance(item, NewFile) else item.size


def write_part(
    repo: Repo,
    items: Sequence[Item],
    differences: Mapping[bytes, Difference],
    path: str | None,
    on_packed: Callable[[int], None],
    check: Check,
) -> PartHeader:
    """Make a part. path: of its file; None to have its bytes in the header. on_packed: called with the number of bytes that
    were compressed.

    Raises RepositoryError when an object is missing or damaged, StorageError when the disk refuses, Cancelled.
    """
    part = PartBuilder()
    for item in items:
        check()
        if isinstance(item, NewFile):
            add_file(part, repo, item, differences.get(item.checksum), check)
        else:
            part.add_metadata(item.kind, item.checksum, repo.read_metadata(item.checksum.hex(), item.kind.extension))
    data = encode_part(_compressed(part.finish(), on_packed, check))
    if path is not None:
        fs.atomic_write(path, data, fsync=repo.config.fsync)
    return PartHeader(
        checksum=hashlib.sha256(data).digest(),
        size=len(data),
        unpacked=part.size,
        objects=bytes(part.objects),
        data=data if path is None else None,
    )


def _compressed(payload: bytes, on_packed: Callable[[int], None], check: Check) -> bytes:
    # no larger than the data: the encoder takes all of its memory at once
    dictionary = min(_DICTIONARY, max(_LEAST_DICTIONARY, len(payload)))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": _PRESET, "dict_size": dictionary}]
    packer = lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=filters)
    out = []
    for piece in checked(fs.slices(payload), check):
        out.append(packer.compress(piece))
        on_packed(len(piece))
    return b"".join([*out, packer.flush()])
