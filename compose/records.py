"""Who made each path of a commit, which programs ran and what decided it: kept in the repository beside the commit, not in it.

In REPO/extensions, which OSTree leaves to others; clients do not pull it. A commit has two files, compressed by zstd:
COMMIT.json.zst, and COMMIT.sources.tar.zst with all files that decided it but the packages (bundle.py). Both lie beside the
root directory of a compose in parts too, until that is committed.
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
from compose.errors import FetchError, RepositoryError, StorageError
from compose.inputhash import Input, InputKind
from compose.ostree.repo import Repo
from compose.process import ProgramRecord
from compose.tree import Entry, Tree

_DIRECTORY = "extensions/compose"
_SUFFIX = ".json.zst"
_SOURCES = ".sources.tar.zst"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A program that ran. owner, phase: as in process.Program. status: as subprocess has it. seconds: wall. changed: paths of
    the root as it was then, with /etc in its place."""

    owner: str
    phase: str
    status: int
    seconds: float
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """writers: path of the commit -> who made it, as tree.Entry says. inputs: what decided the tree, empty in what older
    versions kept. places: what a treefile names ("postprocess[0]", a package, a file of add-files) -> FILE:LINE. marks: path ->
    mark() of what was written there; of a root directory only."""

    writers: Mapping[str, str]
    programs: tuple[Run, ...]
    inputs: tuple[Input, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)


def runs_of(programs: Iterable[ProgramRecord]) -> tuple[Run, ...]:
    """What is kept of programs that have just run."""
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
    """Of a tree that has just been composed."""
    writers = {path: entry.writer for path, entry in tree.walk()}
    return Records(writers=writers, programs=tuple(programs), inputs=inputs)


def records_of_root(tree: Tree, programs: Sequence[Run], inputs: tuple[Input, ...]) -> Records:
    """Of a tree that is written to a root directory."""
    marks = {path: mark(entry) for path, entry in tree.walk()}
    return replace(records_of(tree, programs, inputs), marks=marks)


def mark(entry: Entry) -> str:
    """Stands for all of an entry that a commit depends on; times are not among it. 16 hex digits."""
    blob = entry.blob.digest if entry.blob is not None else None
    facts = (entry.mode, entry.uid, entry.gid, entry.xattrs, blob, entry.target)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def attributed(tree: Tree, records: Records) -> Tree:
    """A tree that was read from a root directory, each entry with the writer it had when the directory was written, if it is
    still what was written; others keep theirs."""
    return Tree(
        {
            path: replace(entry, writer=records.writers[path]) if records.marks.get(path) == mark(entry) else entry
            for path, entry in tree.entries.items()
        }
    )


def encode(records: Records) -> bytes:
    """As JSON, compressed by zstd."""
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
    """Reverse of encode(). Raises ValueError for what is damaged or of another version."""
    try:
        document = json.loads(zstandard.ZstdDecompressor().decompress(data))
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
    """Keep them with a commit, and forget those of commits that are gone. Raises StorageError."""
    directory = os.path.join(repo.path, _DIRECTORY)
    with fs.storage_errors(directory):
        os.makedirs(directory, exist_ok=True)
        fs.atomic_write(os.path.join(directory, commit + _SUFFIX), encode(records))
    forget_gone(repo)


def forget_gone(repo: Repo) -> None:
    """Forget what is kept of commits that are gone. Raises StorageError."""
    directory = os.path.join(repo.path, _DIRECTORY)
    with fs.storage_errors(directory), suppress(FileNotFoundError):
        for name in os.listdir(directory):
            of, _, suffix = name.partition(".")
            if f".{suffix}" in (_SUFFIX, _SOURCES) and not repo.has(of, "commit"):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, name))


def keep_sources(repo: Repo, commit: str, files: Mapping[str, Source], facts: Mapping[str, Any]) -> None:
    """Keep what decided a commit. Raises StorageError."""
    directory = os.path.join(repo.path, _DIRECTORY)
    with fs.storage_errors(directory):
        os.makedirs(directory, exist_ok=True)
        write_sources(os.path.join(directory, commit + _SOURCES), files, facts)


def unpack_sources(repo: Repo, commit: str, directory: str) -> Index:
    """Unpack what decided a commit below an empty, private directory. Raises RepositoryError when it was not kept, FetchError
    when it is damaged, StorageError."""
    index = read_sources(os.path.join(repo.path, _DIRECTORY, commit + _SOURCES), directory)
    if index is None:
        if read(repo, commit).inputs:
            raise RepositoryError(
                f"{repo.path} does not hold what {commit} was made of",
                hint="the compose that made it said why it is not kept",
            )
        raise RepositoryError(
            f"{commit} was committed from a root directory that is not what compose install made of the treefile",
            hint="compose tree, or compose commit of a root that nobody changed, makes commits that can be made again",
        )
    return index


def write_sources(path: str, files: Mapping[str, Source], facts: Mapping[str, Any]) -> None:
    """A bundle, compressed. Raises StorageError."""
    data = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(data, closefd=False) as stream:
        bundle.write(stream, files, facts)
    fs.atomic_write(path, data.getvalue())


def read_sources(path: str, directory: str) -> Index | None:
    """Unpack what write_sources() wrote below an empty, private directory; None when there is none. Raises FetchError when it
    is damaged, StorageError."""
    try:
        with open(path, "rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            return bundle.unpack(stream, path, directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except zstandard.ZstdError as error:
        raise FetchError(f"{path} is damaged: {error}", hint="remove it") from error


def read(repo: Repo, commit: str) -> Records:
    """Raises RepositoryError when there are none, or they are damaged."""
    path = os.path.join(repo.path, _DIRECTORY, commit + _SUFFIX)
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except FileNotFoundError as error:
        raise _unknown(repo, commit) from error
    except OSError as error:
        raise RepositoryError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RepositoryError(f"{path} is damaged: {error}", hint="remove it; --force-nocache makes it anew") from error


def runs_that_changed(records: Records, path: str) -> tuple[Run, ...]:
    """The programs that changed a path of the commit, in order."""
    names = {path, path.removeprefix("usr/") if path.startswith("usr/etc") else path}
    return tuple(each for each in records.programs if names & set(each.changed))


def _unknown(repo: Repo, commit: str) -> RepositoryError:
    return RepositoryError(
        f"{repo.path} has no record of the making of {commit}",
        hint="the compose that makes a commit keeps one in its own repository: ask there",
    )
