"""fs-verity digests of file contents, computed on all cores; those of earlier commits come from the memo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compose import memory
from compose.events import Reporter
from compose.ostree.content import Content
from compose.ostree.memo import ContentMemo
from compose.ostree.workers import measure_regular, reader_memory

_HEADER = b"fs-verity sha256 4096"
"""What the memo knows these digests under. No content object has such a header."""


def measure_contents(contents: Iterable[Content], memo: ContentMemo, jobs: int, reporter: Reporter) -> dict[str, bytes]:
    """Digests (32 bytes) of the regular files that are not empty, by their sha256, which must be known. New ones are added to
    the memo. Raises as write_contents() does."""
    found: dict[str, bytes] = {}
    wanted: dict[str, Content] = {}
    for content in contents:
        if content.target is not None or not content.size or content.digest in found:
            continue
        known = memo.get(_HEADER, bytes.fromhex(content.digest))
        if known is not None:
            found[content.digest] = known
        elif content.digest not in wanted or content.hashed:
            wanted[content.digest] = content
    rest = sorted(wanted.values(), key=lambda content: content.size, reverse=True)
    if rest:
        _measure(rest, found, memo, jobs, reporter)
    return found


def _measure(
    contents: Sequence[Content], found: dict[str, bytes], memo: ContentMemo, jobs: int, reporter: Reporter
) -> None:
    asked = [(each.size, (each.path or "", "" if each.hashed else each.digest)) for each in contents]
    with reporter.task("Measuring files", total=sum(size for size, _ in asked), unit="bytes") as task:

        def take(places: range, digests: list[bytes]) -> None:
            for place, digest in zip(places, digests, strict=True):
                sha256 = contents[place].digest
                found[sha256] = digest
                memo.put(_HEADER, bytes.fromhex(sha256), digest)
            task.advance(sum(asked[place][0] for place in places))

        measure_regular(asked, memory.fitting(jobs, reader_memory(), "Measuring files", reporter), take)
