"""What one commit has and another one has not."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from compose.errors import RepositoryError
from compose.ostree.config import Mode
from compose.ostree.delta.difference import NewFile
from compose.ostree.delta.layout import ObjectType
from compose.ostree.delta.pairs import OldFiles
from compose.ostree.repo import Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMetadata:
    """A dirtree or dirmeta that the old commit has not. size: bytes."""

    kind: ObjectType
    checksum: bytes
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObjects:
    """In the order of the walk. sources: of regular files, the old ones that they may be made of."""

    metadata: tuple[NewMetadata, ...]
    files: tuple[NewFile, ...]
    sources: Mapping[bytes, bytes]


def new_objects(repo: Repo, source: str | None, target: str) -> NewObjects:
    """What the commit `target` has beyond `source`; None for a commit that has nothing. Contents are not read.

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
    old = OldFiles(old_files, lambda checksum: _readable(repo, checksum))
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
    for path, checksum, meta in repo.walk(commit):
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


def _readable(repo: Repo, checksum: bytes) -> int | None:
    """Bytes of a regular file that every client may read: one that is no root takes what it has from root's repository, and
    would fail."""
    with repo.open_content(checksum) as content:
        info = content.info
        return content.size if info.target is None and info.mode & stat.S_IROTH else None
