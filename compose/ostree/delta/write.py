"""A static delta, written: parts and superblock beneath tmp/, then one rename."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from compose import fs, memory, syscalls
from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.delta import bsdiff
from compose.ostree.delta.contents import NewObjects, new_objects
from compose.ostree.delta.difference import (
    Copies,
    Difference,
    NewFile,
    Patched,
    difference,
    memory_to_compare,
    payload_of,
)
from compose.ostree.delta.index import write_index
from compose.ostree.delta.layout import Fallback, PartHeader, delta_path, encode_superblock
from compose.ostree.delta.parts import Item, divided, worker_memory, write_part
from compose.ostree.delta.threads import Cancellation, in_threads
from compose.ostree.lock import SUMMARY_LOCK, locked, locked_to_read
from compose.ostree.objects import MAX_METADATA_SIZE
from compose.ostree.repo import Repo
from compose.ostree.staging import remove_leftovers, staging_directory

_MEGABYTE = 1_000_000
_MOST_IN_PART = 1 << 30
"""Bytes of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaOptions:
    """Sizes in bytes, with the defaults of `ostree static-delta generate`.

    min_fallback_size: larger files that are not made of old ones are left to be fetched as objects; 0 packs all.
    max_chunk_size: of a part before it is compressed. max_bsdiff_size: of an old and a new file together; larger ones are not
    compared, except for being equal. inline: put the parts into the superblock. use_bsdiff: where the program is installed.
    if_not_exists: leave a delta that exists.
    """

    min_fallback_size: int = 4 * _MEGABYTE
    max_chunk_size: int = 32 * _MEGABYTE
    max_bsdiff_size: int = 128 * _MEGABYTE
    inline: bool = False
    use_bsdiff: bool = True
    if_not_exists: bool = False
    jobs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenDelta:
    """source: None for a delta from nothing. path: of its directory, or of the file that write_delta_file() wrote. digest:
    sha256 of its superblock, as the summary has it.

    superblock: bytes of it; parts: bytes of each, in files of their own unless inline. metadata, files: number of objects in
    the parts; copied, patched: how many of the files have runs of an old one, or are patched. fallbacks: number of files that
    are left to be fetched as objects; fallback_bytes: what these take. loose_bytes: what a client fetches without the delta,
    None where the repository is not an archive.
    """

    source: str | None
    target: str
    path: str
    digest: str
    superblock: int
    parts: tuple[int, ...]
    inline: bool
    metadata: int
    files: int
    copied: int
    patched: int
    fallbacks: int
    fallback_bytes: int
    loose_bytes: int | None

    @property
    def fetched_bytes(self) -> int:
        """What a client fetches with it."""
        return self.superblock + (0 if self.inline else sum(self.parts)) + self.fallback_bytes


def write_delta(
    repo: Repo, *, source: str | None, target: str, options: DeltaOptions, reporter: Reporter
) -> WrittenDelta | None:
    """Write the delta from one commit to another, and list it in the index if the repository has one; the summary is not
    touched. source, target: checksums; source None for a delta from nothing. Returns None when the delta exists and may stay.

    The same commits and options give the same bytes, whatever the number of jobs, on machines with the same xz and bsdiff.
    Raises RepositoryError when an object is missing or damaged or another process holds the repository, StorageError when the
    disk refuses.
    """
    place = delta_path(source, target)
    with locked(repo, reporter, exclusive=False):
        if options.if_not_exists and os.path.exists(os.path.join(repo.path, place, "superblock")):
            if repo.config.indexed_deltas:
                # who made it may have been killed before the index was there
                with locked(repo, reporter, exclusive=True, name=SUMMARY_LOCK):
                    write_index(repo, target)
            return None
        remove_leftovers(repo.path)
        with staging_directory(repo.path) as staging:
            directory = os.path.join(staging.path, "delta")
            with fs.storage_errors(repo.path):
                os.mkdir(directory, 0o755)
            made = _make(repo, source, target, directory, options, reporter)
            # from reading the commit's signatures until the delta has its place, nobody may bring superblocks up to date
            with locked(repo, reporter, exclusive=True, name=SUMMARY_LOCK):
                written, superblock = _described(repo, source, target, os.path.join(repo.path, place), made, options)
                if len(superblock) > MAX_METADATA_SIZE:
                    reporter.warn(
                        f"the superblock has {len(superblock)} bytes, and clients fetch at most {MAX_METADATA_SIZE}: it can "
                        "only be applied from a file (ostree static-delta apply-offline); without --inline it is smaller"
                    )
                fs.atomic_write(os.path.join(directory, "superblock"), superblock, fsync=repo.config.fsync)
                _publish(repo, directory, place)
                if repo.config.indexed_deltas:
                    write_index(repo, target)
    return written


def write_delta_file(
    repo: Repo, *, source: str | None, target: str, path: str, options: DeltaOptions, reporter: Reporter
) -> WrittenDelta:
    """Write the delta into one file for `ostree static-delta apply-offline`, by a client that has the source. The repository
    stays as it is, and may be read-only.

    path: of the file. options: the parts are inline and there are no fallbacks, whatever they say. Otherwise as write_delta().
    """
    fs.check_place(path)
    with locked_to_read(repo, reporter):
        alone = replace(options, inline=True, min_fallback_size=0)
        made = _make(repo, source, target, "", alone, reporter)
        written, superblock = _described(repo, source, target, path, made, alone)
        fs.atomic_write(path, superblock)
    return written


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """The contents of a delta. differences: by checksum, of files among those packed. fallbacks: files that are left out."""

    new: NewObjects
    differences: Mapping[bytes, Difference]
    packed: Sequence[NewFile]
    fallbacks: Sequence[Fallback]
    parts: Sequence[PartHeader]


def _make(
    repo: Repo, source: str | None, target: str, directory: str, options: DeltaOptions, reporter: Reporter
) -> _Made:
    """Write the parts into a directory, unless they are inline."""
    new = new_objects(repo, source, target)
    differences = _differences(repo, new, options, reporter)
    packed, fallbacks = _without_fallbacks(repo, new.files, differences, options)
    parts = _write_parts(
        repo, [*new.metadata, *_in_order(packed, differences)], differences, directory, options, reporter
    )
    return _Made(new=new, differences=differences, packed=packed, fallbacks=fallbacks, parts=parts)


def _described(
    repo: Repo, source: str | None, target: str, path: str, made: _Made, options: DeltaOptions
) -> tuple[WrittenDelta, bytes]:
    """Returns what a delta is at the path, and its superblock."""
    superblock = _superblock(repo, source, target, made.parts, made.fallbacks)
    written = WrittenDelta(
        source=source,
        target=target,
        path=path,
        digest=hashlib.sha256(superblock).hexdigest(),
        superblock=len(superblock),
        parts=tuple(each.size for each in made.parts),
        inline=options.inline,
        metadata=len(made.new.metadata),
        files=len(made.packed),
        copied=sum(isinstance(each, Copies) for each in made.differences.values()),
        patched=sum(isinstance(each, Patched) for each in made.differences.values()),
        fallbacks=len(made.fallbacks),
        fallback_bytes=sum(each.stored for each in made.fallbacks),
        loose_bytes=_loose_bytes(repo, target, made.new),
    )
    return written, superblock


def _differences(repo: Repo, new: NewObjects, options: DeltaOptions, reporter: Reporter) -> dict[bytes, Difference]:
    """By the checksum of a new file; those that are better packed as they are have none."""
    files = [file for file in new.files if file.checksum in new.sources]
    if not files:
        return {}
    program = bsdiff.Bsdiff() if options.use_bsdiff and bsdiff.is_installed() else None
    if program is None and options.use_bsdiff:
        reporter.info("bsdiff is not installed; with it, deltas are about a quarter smaller")
    # the largest first, so that no core is left alone with one at the end
    files.sort(key=lambda file: (-file.size, file.checksum))
    most = options.max_bsdiff_size
    largest = max(memory_to_compare(file, new.sources[file.checksum], program, most) for file in files)
    jobs = memory.fitting(options.jobs, largest, "Comparing files", reporter)
    cancellation = Cancellation()

    def cancel() -> None:
        cancellation.cancel()
        if program is not None:
            program.stop()

    with reporter.task("Comparing files", total=len(files), unit="files") as task:

        def compare(file: NewFile) -> Difference | None:
            found = difference(repo, file, new.sources[file.checksum], program, most, cancellation.check)
            task.advance()
            return found

        found = in_threads(compare, files, jobs, cancel)
    if program is not None and program.failures:
        reporter.warn(
            f"bsdiff failed for {program.failures} of {len(files)} files: the delta is larger than it need be, and another run "
            "may give other bytes"
        )
    return {file.checksum: each for file, each in zip(files, found, strict=True) if each is not None}


def _without_fallbacks(
    repo: Repo, files: Sequence[NewFile], differences: Mapping[bytes, Difference], options: DeltaOptions
) -> tuple[list[NewFile], list[Fallback]]:
    """Files that go into parts, and those that clients fetch as objects, which they can from an archive repository only. Raises
    RepositoryError for a file that can go neither way."""
    most = options.min_fallback_size if repo.config.mode is Mode.ARCHIVE else 0
    packed, fallbacks = [], []
    for file in files:
        if most and file.size > most and file.checksum not in differences:
            fallbacks.append(Fallback(checksum=file.checksum, stored=file.stored, size=file.size))
        else:
            if payload_of(file, differences.get(file.checksum)) > _MOST_IN_PART:
                raise RepositoryError(
                    f"{repo.path}: the file /{file.path} has {file.size} bytes, too many for a client to hold in memory",
                    hint="make the delta in an archive repository, with --min-fallback-size above 0 and without --filename: "
                    "clients then fetch it as an object",
                )
            packed.append(file)
    return packed, fallbacks


def _in_order(files: Sequence[NewFile], differences: Mapping[bytes, Difference]) -> list[NewFile]:
    """Those made of old ones, then whole files, then symlinks; each kind by path: neighbours compress well together."""
    return sorted(files, key=lambda file: 2 if file.info.target is not None else int(file.checksum not in differences))


def _write_parts(
    repo: Repo,
    items: Sequence[Item],
    differences: Mapping[bytes, Difference],
    directory: str,
    options: DeltaOptions,
    reporter: Reporter,
) -> list[PartHeader]:
    """Into a directory, unless they are inline."""
    groups = divided(items, differences, options.max_chunk_size)
    jobs = memory.fitting(options.jobs, worker_memory(groups, differences), "Packing", reporter)
    cancellation = Cancellation()
    with reporter.task("Packing", unit="bytes") as task:

        def pack(number: int) -> PartHeader:
            path = None if options.inline else os.path.join(directory, str(number))
            return write_part(repo, groups[number], differences, path, task.advance, cancellation.check)

        return in_threads(pack, range(len(groups)), jobs, cancellation.cancel)


def _superblock(
    repo: Repo,
    source: str | None,
    target: str,
    parts: Sequence[PartHeader],
    fallbacks: Sequence[Fallback],
) -> bytes:
    commit, detached = repo.read_metadata(target, "commit"), repo.read_detached_bytes(target)
    try:
        return encode_superblock(source, target, commit, detached, parts, fallbacks)
    except ValueError as error:
        raise repo.damaged(f"{target}.commit", str(error)) from error


def _publish(repo: Repo, directory: str, place: str) -> None:
    """Give a directory the name of a delta; a delta that has that name takes the directory's place."""
    above, path = os.path.join(repo.path, os.path.dirname(place)), os.path.join(repo.path, place)
    with fs.obstacles(path), fs.storage_errors(path):
        if repo.config.fsync:
            fs.sync_directory(directory)
        os.makedirs(above, mode=0o755, exist_ok=True)
        try:
            os.rename(directory, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            syscalls.exchange(directory, path)
        if repo.config.fsync:
            for each in (above, os.path.join(repo.path, "deltas"), repo.path):
                fs.sync_directory(each)


def _loose_bytes(repo: Repo, target: str, new: NewObjects) -> int | None:
    if repo.config.mode is not Mode.ARCHIVE:
        return None
    loose = sum(each.stored for each in new.files) + sum(each.size for each in new.metadata)
    return loose + repo.size_of(target, "commit")
