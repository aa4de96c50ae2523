"""Records of a commit: the writer of each path, the programs that ran, and the inputs.

They are kept in REPO/extensions/compose, not in the commit: OSTree reserves REPO/extensions for other tools, and clients do not
pull it. A commit has two files, compressed with zstd: COMMIT.json.zst, and COMMIT.sources.tar.zst, a bundle of all files that
are inputs except the packages. A root directory of `compose install` has both next to it until it is committed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import zstandard

from compose import bundle, fs
from compose.bundle import Index, Source
from compose.errors import FetchError, RepositoryError
from compose.inputhash import Input, InputKind
from compose.ostree.repo import Repo
from compose.process import ProgramRecord
from compose.tree import Entry, Tree

_DIRECTORY = "extensions/compose"
_SUFFIX = ".json.zst"
_SOURCES = ".sources.tar.zst"
_VERSION = 1
_MAX_SIZE = 1 << 28
"""Bytes of a record as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A program that ran. owner, phase: as in process.Program. status: as in subprocess. seconds: wall time. changed: paths in
    the workroot, where /usr/etc is still /etc."""

    owner: str
    phase: str
    status: int
    seconds: float
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Records of a tree. writers: by path, as tree.Entry.writer. inputs: of the tree, empty in records of older versions.
    places: FILE:LINE by what a treefile names there ("postprocess[0]", a package, a file of add-files). marks: mark() by path,
    only for a root directory."""

    writers: Mapping[str, str]
    programs: tuple[Run, ...]
    inputs: tuple[Input, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)


def runs_of(programs: Iterable[ProgramRecord]) -> tuple[Run, ...]:
    """Convert the records of programs that have just run."""
    return tuple(
        Run(
            owner=each.program.owner,
            phase=each.program.phase,
            status=each.status,
            seconds=round(each.seconds, 3),
            changed=each.changed,
        )
        for each in programs
    )


def records_of(tree: Tree, programs: Sequence[Run], inputs: tuple[Input, ...]) -> Records:
    """Records of a tree that has just been composed."""
    writers = {path: entry.writer for path, entry in tree.walk()}
    return Records(writers=writers, programs=tuple(programs), inputs=inputs)


def records_of_root(tree: Tree, programs: Sequence[Run], inputs: tuple[Input, ...]) -> Records:
    """Records of a tree that is written to a root directory."""
    marks = {path: mark(entry) for path, entry in tree.walk()}
    return replace(records_of(tree, programs, inputs), marks=marks)


def mark(entry: Entry) -> str:
    """Return a short digest of an entry as a commit has it, without its time: 16 hex digits."""
    blob = entry.blob.digest if entry.blob is not None else None
    facts = (entry.mode, entry.uid, entry.gid, entry.xattrs, blob, entry.target)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def attributed(tree: Tree, records: Records) -> Tree:
    """Set the writers in a tree that was read from a root directory. records: of that directory; entries that changed since it
    was written keep their writer."""
    return Tree(
        {
            path: replace(entry, writer=records.writers[path]) if records.marks.get(path) == mark(entry) else entry
            for path, entry in tree.entries.items()
        }
    )


def encode(records: Records) -> bytes:
    """Serialise records as JSON, compressed with zstd."""
    by_writer: dict[str, list[str]] = {}
    for path, writer in records.writers.items():
        by_writer.setdefault(writer, []).append(path)
    document = {
        "version": _VERSION,
        "writers": by_writer,
        "programs": [asdict(each) for each in records.programs],
        "places": dict(records.places),
        "inputs": [[each.kind, each.name, each.value] for each in records.inputs],
        "marks": dict(records.marks),
    }
    return zstandard.ZstdCompressor().compress(json.dumps(document).encode())


def decode(data: bytes) -> Records:
    """Reverse of encode(). Raises ValueError if data is damaged or of another version."""
    try:
        # not decompress(), which allocates as much as the data claims to be
        text = zstandard.ZstdDecompressor().stream_reader(data).read(_MAX_SIZE + 1)
        if len(text) > _MAX_SIZE:
            raise ValueError(f"it has more than {_MAX_SIZE} bytes")
        document = json.loads(text)
        if document["version"] != _VERSION:
            raise ValueError(f"version {document['version']}")
        return Records(
            writers={each: writer for writer, paths in document["writers"].items() for each in paths},
            programs=tuple(Run(**{**each, "changed": tuple(each["changed"])}) for each in document["programs"]),
            places=document["places"],
            inputs=tuple(
                Input(kind=InputKind(kind), name=name, value=value) for kind, name, value in document.get("inputs", ())
            ),
            marks=document.get("marks", {}),
        )
    except (KeyError, TypeError, AttributeError, RecursionError, zstandard.ZstdError) as error:
        raise ValueError(str(error)) from error


def keep(repo: Repo, commit: str, records: Records) -> None:
    """Store records for a commit, and remove those of deleted commits. Raises StorageError."""
    directory = os.path.join(repo.path, _DIRECTORY)
    with fs.storage_errors(directory):
        os.makedirs(directory, exist_ok=True)
        fs.atomic_write(os.path.join(directory, commit + _SUFFIX), encode(records))
    forget_gone(repo)


def forget_gone(repo: Repo) -> None:
    """Remove records and sources of deleted commits, and what killed processes were writing. Raises StorageError."""
    directory = os.path.join(repo.path, _DIRECTORY)
    with fs.storage_errors(directory), suppress(FileNotFoundError):
        fs.remove_unfinished(directory)
        for name in os.listdir(directory):
            commit, _, suffix = name.partition(".")
            if f".{suffix}" in (_SUFFIX, _SOURCES) and not repo.has(commit, "commit"):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, name))


def keep_sources(repo: Repo, commit: str, files: Mapping[str, Source], facts: Mapping[str, Any]) -> None:
    """Store the sources of a commit. files, facts: as for bundle.write(). Raises StorageError, UsageError."""
    directory = os.path.join(repo.path, _DIRECTORY)
    with fs.storage_errors(directory):
        os.makedirs(directory, exist_ok=True)
        write_sources(os.path.join(directory, commit + _SOURCES), files, facts)


def unpack_sources(repo: Repo, commit: str, directory: str) -> Index:
    """Unpack the sources of a commit below an empty, private directory. Raises RepositoryError if they were not stored,
    FetchError if they are damaged, StorageError."""
    index = read_sources(os.path.join(repo.path, _DIRECTORY, commit + _SOURCES), directory)
    if index is None:
        if read(repo, commit).inputs:
            raise RepositoryError(
                f"{repo.path} does not have the sources of {commit}",
                hint="the compose that made the commit printed why it did not store them",
            )
        raise RepositoryError(
            f"{commit} was committed from a root directory that was changed or not made by compose install",
            hint="only commits by compose tree, or by compose commit of an unchanged root, can be reproduced",
        )
    return index


def write_sources(path: str, files: Mapping[str, Source], facts: Mapping[str, Any]) -> None:
    """Write sources as a bundle, compressed with zstd. files, facts: as for bundle.write(). Raises StorageError, UsageError."""
    data = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(data, closefd=False) as stream:
        bundle.write(stream, files, facts)
    fs.atomic_write(path, data.getvalue())


def read_sources(path: str, directory: str) -> Index | None:
    """Unpack the sources that write_sources() wrote below an empty, private directory; None if there are none.

    Raises FetchError if they are damaged or cannot be read, StorageError.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115, closed below, where an OSError is not one of opening it
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FetchError(f"cannot read {path}: {error.strerror}", hint="make it readable, or remove it") from error
    try:
        with file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            return bundle.unpack(stream, path, directory)
    except zstandard.ZstdError as error:
        raise FetchError(f"{path} is damaged: {error}", hint="remove it") from error


def read(repo: Repo, commit: str) -> Records:
    """Read the records of a commit. Raises RepositoryError if there are none or they are damaged."""
    path = os.path.join(repo.path, _DIRECTORY, commit + _SUFFIX)
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except FileNotFoundError as error:
        raise _unknown(repo, commit) from error
    except OSError as error:
        raise RepositoryError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RepositoryError(
            f"{path} is damaged: {error}", hint="remove it; --force-nocache creates it again"
        ) from error


def runs_that_changed(records: Records, path: str) -> tuple[Run, ...]:
    """Return the programs that changed a path of the commit, in the order they ran."""
    names = {path, path.removeprefix("usr/") if path.startswith("usr/etc") else path}
    return tuple(each for each in records.programs if names & set(each.changed))


def _unknown(repo: Repo, commit: str) -> RepositoryError:
    return RepositoryError(
        f"{repo.path} has no records of {commit}",
        hint="use the repository in which the commit was composed; records are not pulled with it",
    )
