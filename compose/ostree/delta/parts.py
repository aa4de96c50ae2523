"""Parts: new objects shared out, each part filled and compressed on a core of its own."""

from __future__ import annotations

import hashlib
import lzma
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from compose import fs
from compose.ostree.delta.contents import NewMetadata
from compose.ostree.delta.difference import Difference, NewFile, add_file, payload_of
from compose.ostree.delta.layout import PartBuilder, PartHeader, encode_part
from compose.ostree.repo import Repo

_PRESET = 8
"""Of xz; what libostree takes."""
_DICTIONARY = 32 << 20
"""Bytes, of this preset."""
_LEAST_DICTIONARY = 4096
_ENCODER = 12
"""Bytes of memory for each byte of the dictionary (xz(1))."""
_COPIES = 4
"""Of a part's bytes, while it is made."""

Item = NewMetadata | NewFile
_Work = TypeVar("_Work")
_Done = TypeVar("_Done")


def shared_out(items: Iterable[Item], how: Mapping[bytes, Difference], most: int) -> list[list[Item]]:
    """Items of each part, in the order given. most: bytes of a part before it is compressed; one object may have more."""
    parts: list[list[Item]] = []
    filled = 0
    for item in items:
        size = payload_of(item, how.get(item.checksum)) if isinstance(item, NewFile) else item.size
        if not parts or filled + size > most:
            parts.append([])
            filled = 0
        parts[-1].append(item)
        filled += size
    return parts


def worker_memory(parts: Sequence[Sequence[Item]], how: Mapping[bytes, Difference]) -> int:
    """Bytes of memory that the largest part takes while it is made."""
    largest = max(
        (
            sum(payload_of(each, how.get(each.checksum)) if isinstance(each, NewFile) else each.size for each in part)
            for part in parts
        ),
        default=0,
    )
    return _COPIES * largest + _ENCODER * min(_DICTIONARY, max(_LEAST_DICTIONARY, largest))


def write_part(
    repo: Repo,
    items: Sequence[Item],
    how: Mapping[bytes, Difference],
    path: str | None,
    on_packed: Callable[[int], None],
    stopped: threading.Event,
) -> PartHeader:
    """path: where its file goes; None to have its bytes in the header. on_packed(bytes of the payload that are compressed).

    Raises RepositoryError when an object is missing or damaged, StorageError when the disk refuses.
    """
    part = PartBuilder()
    for item in items:
        if stopped.is_set():
            break
        if isinstance(item, NewFile):
            add_file(part, repo, item, how.get(item.checksum))
        else:
            part.add_metadata(item.kind, item.checksum, repo.read_metadata(item.checksum.hex(), item.kind.extension))
    data = encode_part(_compressed(part.finish(), on_packed, stopped))
    if path is not None:
        fs.atomic_write(path, data, fsync=repo.config.fsync)
    return PartHeader(
        checksum=hashlib.sha256(data).digest(),
        size=len(data),
        unpacked=part.size,
        objects=bytes(part.objects),
        data=data if path is None else None,
    )


def _compressed(payload: bytes, on_packed: Callable[[int], None], stopped: threading.Event) -> bytes:
    # no larger dictionary than there is to look up: its memory is taken at once
    dictionary = min(_DICTIONARY, max(_LEAST_DICTIONARY, len(payload)))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": _PRESET, "dict_size": dictionary}]
    packer = lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=filters)
    out = []
    for piece in _pieces(payload):
        if stopped.is_set():
            break
        out.append(packer.compress(piece))
        on_packed(len(piece))
    return b"".join([*out, packer.flush()])


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for place in range(0, len(data), fs.CHUNK):
        yield view[place : place + fs.CHUNK]


def on_all_cores(
    work: Callable[[_Work], _Done], items: Sequence[_Work], jobs: int, stop: Callable[[], None]
) -> list[_Done]:
    """work() of each item, by threads: what takes time (hashes, xz, other programs) runs beside Python. stop: called at the
    first error, which is raised, to end what is under way.
    """
    with ThreadPoolExecutor(jobs, thread_name_prefix="delta") as pool:
        try:
            return [each.result() for each in [pool.submit(work, item) for item in items]]
        except BaseException:
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
