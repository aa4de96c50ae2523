"""A static delta, written: parts and superblock beneath tmp/, then one rename."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compose import fs, memory, syscalls
from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.delta import bsdiff
from compose.ostree.delta.contents import NewObjects, new_objects
from compose.ostree.delta.difference import Copies, Difference, NewFile, Patched, difference, payload_of
from compose.ostree.delta.index import write_index
from compose.ostree.delta.layout import Fallback, PartHeader, delta_path, encode_superblock
from compose.ostree.delta.parts import Item, on_all_cores, shared_out, worker_memory, write_part
from compose.ostree.lock import locked
from compose.ostree.objects import MAX_METADATA_SIZE
from compose.ostree.repo import Repo
from compose.ostree.staging import remove_leftovers, staging_directory

_MEGABYTE = 1_000_000
_MOST_IN_PART = 1 << 30
"""Bytes of a file."""
_COMPARED = 8
"""Bytes of memory for each byte of a file that is compared with another one of its size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaOptions:
    """Sizes in bytes, with the defaults of `ostree static-delta generate`.

    min_fallback_size: larger files for which there is no difference are fetched as they are; 0 for none. max_chunk_size: of a
    part, before it is compressed. max_bsdiff_size: of an old and a new file together; of larger ones no difference is made.
    inline: the superblock holds the parts. use_bsdiff: where the program is installed. if_not_exists: leave one that is there.
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
    """source: None for a delta from nothing. path: of its directory. digest: sha256 of its superblock, as the summary has it.

    superblock: bytes of it; parts: bytes of each, in files of their own unless inline. metadata, files: objects that it makes;
    copied, patched: of these files those made of what an old one has, and by bspatch. fallbacks: files that are fetched as they
    are, fallback_bytes: what they take. loose_bytes: what a client fetches without the delta, None for a repository that is no
    archive.
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
    """Write the delta from one commit to another, and the index of those to `target` where the repository has such; all but the
    summary. source, target: checksums; source None for a delta from nothing. None: it is there, and may stay.

    The same commits and options give the same bytes, whatever the number of jobs, on machines with the same xz and bsdiff.
    Raises RepositoryError when an object is missing or damaged or another process holds the repository, StorageError when the
    disk refuses.
    """
    place = delta_path(source, target)
    with locked(repo, reporter, exclusive=False):
        if options.if_not_exists and os.path.exists(os.path.join(repo.path, place, "superblock")):
            return None
        with fs.storage_errors(repo.path):
            remove_leftovers(repo.path)
        new = new_objects(repo, source, target)
        how = _differences(repo, new, options, reporter)
        packed, fallbacks = _apart(repo, new.files, how, options)
        with staging_directory(repo.path) as staging:
            directory = os.path.join(staging.path, "delta")
            with fs.storage_errors(repo.path):
                os.mkdir(directory, 0o755)
            parts = _write_parts(repo, [*new.metadata, *_in_order(packed, how)], how, directory, options, reporter)
            superblock = _superblock(repo, source, target, parts, fallbacks, reporter)
            fs.atomic_write(os.path.join(directory, "superblock"), superblock, fsync=repo.config.fsync)
            _publish(repo, directory, place)
        if repo.config.indexed_deltas:
            write_index(repo, target)
    return WrittenDelta(
        source=source,
        target=target,
        path=os.path.join(repo.path, place),
        digest=hashlib.sha256(superblock).hexdigest(),
        superblock=len(superblock),
        parts=tuple(each.size for each in parts),
        inline=options.inline,
        metadata=len(new.metadata),
        files=len(packed),
        copied=sum(isinstance(each, Copies) for each in how.values()),
        patched=sum(isinstance(each, Patched) for each in how.values()),
        fallbacks=len(fallbacks),
        fallback_bytes=sum(each.stored for each in fallbacks),
        loose_bytes=_loose(repo, target, new),
    )


def _differences(repo: Repo, new: NewObjects, options: DeltaOptions, reporter: Reporter) -> dict[bytes, Difference]:
    """How files are made of old ones, by checksum."""
    files = [file for file in new.files if file.checksum in new.sources]
    if not files:
        return {}
    program = bsdiff.Bsdiff() if options.use_bsdiff and bsdiff.is_installed() else None
    if program is None and options.use_bsdiff:
        reporter.info("bsdiff is not installed; with it deltas are smaller by a quarter")
    # the largest first, for no core shall be left alone with one at the end
    files.sort(key=lambda file: (-file.size, file.checksum))
    most = options.max_bsdiff_size
    largest = max((file.size for file in files if 2 * file.size <= most), default=0)
    each = bsdiff.memory(largest, largest) if program is not None else _COMPARED * largest
    jobs = memory.fitting(options.jobs, each, "Comparing files", reporter)
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        if program is not None:
            program.stop()

    with reporter.task("Comparing files", total=len(files), unit="files") as task:

        def compare(file: NewFile) -> Difference | None:
            found = None if stopped.is_set() else difference(repo, file, new.sources[file.checksum], program, most)
            task.advance()
            return found

        found = on_all_cores(compare, files, jobs, stop)
    return {file.checksum: each for file, each in zip(files, found, strict=True) if each is not None}


def _apart(
    repo: Repo, files: Sequence[NewFile], how: Mapping[bytes, Difference], options: DeltaOptions
) -> tuple[list[NewFile], list[Fallback]]:
    """What goes into parts, and what clients fetch as it is: they can from an archive repository only. Raises RepositoryError
    for what can go neither way."""
    most = options.min_fallback_size if repo.config.mode is Mode.ARCHIVE else 0
    packed, fallbacks = [], []
    for file in files:
        if most and file.size > most and file.checksum not in how:
            fallbacks.append(Fallback(checksum=file.checksum, stored=file.stored, size=file.size))
        else:
            if payload_of(file, how.get(file.checksum)) > _MOST_IN_PART:
                raise RepositoryError(
                    f"{repo.path}: the file /{file.path} has {file.size} bytes, which a client could not hold in memory",
                    hint="make deltas in an archive repository, with --min-fallback-size above 0: it is fetched as it is",
                )
            packed.append(file)
    return packed, fallbacks


def _in_order(files: Sequence[NewFile], how: Mapping[bytes, Difference]) -> list[NewFile]:
    """Those made of old ones, then whole files, then symlinks; each in the order of paths, for xz finds what is alike there."""
    return sorted(files, key=lambda file: 2 if file.info.target is not None else int(file.checksum not in how))


def _write_parts(
    repo: Repo,
    items: Sequence[Item],
    how: Mapping[bytes, Difference],
    directory: str,
    options: DeltaOptions,
    reporter: Reporter,
) -> list[PartHeader]:
    """In a directory, or in their headers alone."""
    groups = shared_out(items, how, options.max_chunk_size)
    jobs = memory.fitting(options.jobs, worker_memory(groups, how), "Packing", reporter)
    stopped = threading.Event()
    with reporter.task("Packing", unit="bytes") as task:

        def pack(number: int) -> PartHeader:
            path = None if options.inline else os.path.join(directory, str(number))
            return write_part(repo, groups[number], how, path, task.advance, stopped)

        return on_all_cores(pack, range(len(groups)), jobs, stopped.set)


def _superblock(
    repo: Repo,
    source: str | None,
    target: str,
    parts: Sequence[PartHeader],
    fallbacks: Sequence[Fallback],
    reporter: Reporter,
) -> bytes:
    commit, timestamp = repo.read_metadata(target, "commit"), repo.read_commit(target, ()).timestamp
    detached = repo.read_detached_bytes(target)
    try:
        # dated as the commit and not by the clock: the same delta is the same bytes
        data = encode_superblock(source, target, commit, detached, timestamp, parts, fallbacks)
    except ValueError as error:
        raise RepositoryError(
            f"{repo.path}: the commit {target} is damaged: {error}",
            hint=f"see what else is damaged: ostree --repo={repo.path} fsck",
        ) from error
    if len(data) > MAX_METADATA_SIZE:
        reporter.warn(
            f"the superblock has {len(data)} bytes, and clients fetch none of more than {MAX_METADATA_SIZE}: it can be applied "
            "from a file; without --inline it is smaller"
        )
    return data


def _publish(repo: Repo, directory: str, place: str) -> None:
    """Give a directory the name of a delta; one that is there takes its place, to be removed."""
    above, path = os.path.join(repo.path, os.path.dirname(place)), os.path.join(repo.path, place)
    with fs.storage_errors(path):
        if repo.config.fsync:
            _sync(directory)
        os.makedirs(above, mode=0o755, exist_ok=True)
        try:
            os.rename(directory, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            syscalls.exchange(directory, path)
        if repo.config.fsync:
            for each in (above, os.path.join(repo.path, "deltas"), repo.path):
                _sync(each)


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _loose(repo: Repo, target: str, new: NewObjects) -> int | None:
    if repo.config.mode is not Mode.ARCHIVE:
        return None
    loose = sum(each.stored for each in new.files) + sum(each.size for each in new.metadata)
    return loose + repo.size_of(target, "commit")
