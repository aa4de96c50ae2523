"""What one commit has and another one lacks."""

from __future__ import annotations

import functools
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from compose.errors import RepositoryError
from compose.ostree.config import Mode
from compose.ostree.delta.difference import NewFile
from compose.ostree.delta.layout import ObjectType
from compose.ostree.delta.pairs import OldFile, OldFiles
from compose.ostree.repo import Repo

_PLACES = 16
"""Of a directory that is in the commit more often, only these are looked at: all places hold the same objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMetadata:
    """A dirtree or dirmeta that the old commit lacks. size: bytes."""

    kind: ObjectType
    checksum: bytes
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObjects:
    """In the order of the walk. sources: by the checksum of a new regular file, the old one to compare it with."""

    metadata: tuple[NewMetadata, ...]
    files: tuple[NewFile, ...]
    sources: Mapping[bytes, OldFile]


def new_objects(repo: Repo, source: str | None, target: str) -> NewObjects:
    """What the commit `target` has and `source` lacks; all of it when `source` is None. Contents of files are not read.

    Raises RepositoryError when an object of either is missing or damaged, or a commit was pulled in part only.
    """
    for each in (source, target):
        if each is not None and repo.is_partial(each):
            raise RepositoryError(
                f"{repo.path} has the commit {each} in part only", hint="pull it again, without --commit-metadata-only"
            )
    old_files, known = [], set[tuple[ObjectType, bytes]]()
    if source is not None:
        for path, kind, checksum in _walk(repo, source):
            known.add((kind, checksum))
            if kind is ObjectType.FILE:
                old_files.append((path, checksum))
    metadata: dict[tuple[ObjectType, bytes], None] = {}
    paths: dict[bytes, list[str]] = {}
    for path, kind, checksum in _walk(repo, target):
        if (kind, checksum) in known:
            continue
        if kind is ObjectType.FILE:
            paths.setdefault(checksum, []).append(path)
        else:
            metadata[kind, checksum] = None
    old = OldFiles(old_files, functools.cache(lambda checksum: _readable_size(repo, checksum)))
    files = [_new_file(repo, checksum, each, old) for checksum, each in paths.items()]
    sources = {
        file.checksum: similar
        for file in files
        if file.info.target is None and file.size and (similar := old.similar(file.path, file.size))
    }
    return NewObjects(
        metadata=tuple(
            NewMetadata(kind=kind, checksum=checksum, size=repo.size_of(checksum.hex(), kind.extension))
            for kind, checksum in metadata
        ),
        files=tuple(files),
        sources=sources,
    )


def _walk(repo: Repo, commit: str) -> Iterator[tuple[str, ObjectType, bytes]]:
    for path, checksum, meta in repo.walk(commit, most=_PLACES):
        if meta is None:
            yield path, ObjectType.FILE, checksum
        else:
            yield path, ObjectType.DIRTREE, checksum
            yield path, ObjectType.DIRMETA, meta


def _new_file(repo: Repo, checksum: bytes, paths: Sequence[str], old: OldFiles) -> NewFile:
    with repo.open_content(checksum) as content:
        info, size = content.info, content.size
    return NewFile(
        checksum=checksum,
        path=next((path for path in paths if path in old), paths[0]),
        info=info,
        size=size if info.target is None else len(info.target.encode()),
        stored=repo.size_of(checksum.hex(), "filez") if repo.config.mode is Mode.ARCHIVE else 0,
    )


def _readable_size(repo: Repo, checksum: bytes) -> int | None:
    """Bytes of a regular file that everybody may read, None for any other: a client that is not root may have root's
    repository as its parent, and read the old file there."""
    with repo.open_content(checksum) as content:
        info = content.info
        return content.size if info.target is None and info.mode & stat.S_IROTH else None
