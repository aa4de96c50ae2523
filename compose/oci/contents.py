"""What the layers of an image hold: the objects of one commit as a bare-split-xattrs repository, and its files as a container
sees them, which are hard links to the objects.

    sysroot/ostree/repo/objects/ab/cdef….commit             first layer: commit, .commitmeta, every .dirtree and .dirmeta
    sysroot/ostree/repo/objects/ab/cdef….file-xattrs-link   a(ayay) of the file object that follows at once
    sysroot/ostree/repo/objects/ab/cdef….file               owner and mode of the entry, not of the object's header
    usr/bin/bash                                            hard link to its object

Format: ostree-ext, tar/export.rs and tar/import.rs, which demands: the commit before everything else in the repository, then
its detached metadata; no metadata in layers but the first; xattrs right before their object; no object twice in a layer;
metadata of 10 MiB at most. The xattrs are a file of their own for each object, as ostree-ext has had it since hard links to
one file for all were more than filesystems take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from compose.errors import RepositoryError
from compose.oci import tar
from compose.ostree.objects import FileInfo, encode_xattrs
from compose.ostree.repo import Repo

_OSTREE = "sysroot/ostree"
_REPOSITORY = f"{_OSTREE}/repo"
_OBJECTS = f"{_REPOSITORY}/objects"
_CONFIG = b"[core]\nrepo_version=1\nmode=bare-split-xattrs\n"
_DIRECTORIES = (
    *("sysroot", _OSTREE, _REPOSITORY, _OBJECTS),
    *(f"{_OBJECTS}/{number:02x}" for number in range(256)),
    *(
        f"{_REPOSITORY}/{name}"
        for name in ("extensions", "refs", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp", "tmp/cache")
    ),
)
_MOST_METADATA = 10 << 20
_PERMISSIONS = 0o7777
_LABEL = b"security.selinux"
_WHITEOUT = ".wh."

Advance = Callable[[], None]
"""Called when an object is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A commit. directories: (path, dirtree, dirmeta), each before what it holds; the root is "". files: paths of each file
    object (32 bytes), sorted; objects sorted too."""

    commit: str
    directories: tuple[tuple[str, bytes, bytes], ...]
    files: Mapping[bytes, tuple[str, ...]]

    @property
    def hidden(self) -> tuple[str, ...]:
        """Paths that clients get, but that cannot be seen in a container: there their names remove files."""
        paths = (
            path
            for each in (self.files.values(), [[row[0] for row in self.directories]])
            for row in each
            for path in row
        )
        return tuple(sorted(path for path in paths if path.rpartition("/")[2].startswith(_WHITEOUT)))


def read_contents(repo: Repo, commit: str) -> Contents:
    """Raises RepositoryError when an object is missing or damaged, or when the files cannot be one tree in a container."""
    if repo.is_partial(commit):
        raise RepositoryError(
            f"{repo.path}: commit {commit} is there in part only", hint="pull it whole: ostree pull, without --subpath"
        )
    # before others write layers for nothing
    _check_size(commit, "commit", repo.read_metadata(commit, "commit"))
    directories: list[tuple[str, bytes, bytes]] = []
    files: dict[bytes, list[str]] = {}
    for path, checksum, meta in repo.walk(commit):
        if meta is None:
            files.setdefault(checksum, []).append(path)
        else:
            directories.append((path, checksum, meta))
    paths = {row[0] for row in directories}.union(*files.values())
    if {"etc", "usr/etc"} <= paths:
        raise RepositoryError(
            f"{repo.path}: commit {commit} has both /etc and /usr/etc, which are one in a container",
            hint="a tree for clients has /usr/etc alone; see compose lint",
        )
    return Contents(
        commit=commit,
        directories=tuple(directories),
        files={checksum: tuple(sorted(files[checksum])) for checksum in sorted(files)},
    )


def first_layer(repo: Repo, contents: Contents, objects: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    """The tar stream of the layer with the commit and the directories, and of these file objects. Raises RepositoryError."""
    owner = repo.read_dirmeta(contents.directories[0][2])
    yield tar.entry("./", tar.DIRECTORY, mode=owner.mode & _PERMISSIONS, uid=owner.uid, gid=owner.gid)
    yield _repository()
    yield _metadata(contents.commit, "commit", repo.read_metadata(contents.commit, "commit"))
    if detached := repo.read_detached_bytes(contents.commit):
        yield _metadata(contents.commit, "commitmeta", detached)
    written: set[bytes] = set()
    seen = set()
    for path, tree, meta in contents.directories:
        # dirmeta first, as ostree-ext has it
        for checksum, kind in ((meta, "dirmeta"), (tree, "dirtree")):
            if checksum not in written:
                written.add(checksum)
                yield _metadata(checksum.hex(), kind, repo.read_metadata(checksum.hex(), kind))
        if path and (shown := _shown(path)):
            seen.add(shown)
            yield _directory(repo, shown, meta)
    # a symlink leads to where others make it
    linked = any(path in ("var", "var/tmp") for paths in contents.files.values() for path in paths)
    if "var/tmp" not in seen and not linked:
        # what clients make when they boot, and programs of a container need
        if "var" not in seen:
            yield tar.entry("var", tar.DIRECTORY, mode=0o755)
        yield tar.entry("var/tmp", tar.DIRECTORY, mode=0o1777)
    yield from _files(repo, contents, objects, {}, advance)
    yield tar.END


def component_layer(
    repo: Repo, contents: Contents, objects: Iterable[bytes], parents: bool, advance: Advance
) -> Iterator[bytes]:
    """The tar stream of a layer with some file objects alone. parents: have the directories that they are in once more, for
    unpackers that make up what they do not find. Raises RepositoryError."""
    yield _repository()
    above = {shown: meta for path, _, meta in contents.directories if (shown := _shown(path))} if parents else {}
    yield from _files(repo, contents, objects, above, advance)
    yield tar.END


def _repository() -> bytes:
    rows = [tar.entry(path, tar.DIRECTORY, mode=0o755) for path in _DIRECTORIES]
    return b"".join((*rows, tar.file(f"{_REPOSITORY}/config", _CONFIG)))


def _metadata(checksum: str, kind: str, data: bytes) -> bytes:
    _check_size(checksum, kind, data)
    return tar.file(f"{_name(checksum)}.{kind}", data)


def _check_size(checksum: str, kind: str, data: bytes) -> None:
    if len(data) > _MOST_METADATA:
        raise RepositoryError(
            f"the object {checksum}.{kind} has {len(data)} bytes, and importers of container images take {_MOST_METADATA}",
            hint="keep large metadata out of the commit, such as advisories-metadata: detached has it"
            if kind == "commit"
            else None,
        )


def _name(checksum: str) -> str:
    return f"{_OBJECTS}/{checksum[:2]}/{checksum[2:]}"


def _shown(path: str) -> str | None:
    """Where a container sees a path of the commit; None for what it cannot see."""
    if path == "sysroot" or path == _OSTREE or path.startswith(f"{_OSTREE}/"):
        # the repository of the image is there
        return None
    if f"/{_WHITEOUT}" in f"/{path}":
        return None
    if path == "usr/etc" or path.startswith("usr/etc/"):
        return path.removeprefix("usr/")
    return path


def _directory(repo: Repo, path: str, meta: bytes) -> bytes:
    owner = repo.read_dirmeta(meta)
    return tar.entry(path, tar.DIRECTORY, mode=owner.mode & _PERMISSIONS, uid=owner.uid, gid=owner.gid)


def _files(
    repo: Repo, contents: Contents, objects: Iterable[bytes], above: Mapping[str, bytes], advance: Advance
) -> Iterator[bytes]:
    """above: dirmeta of each directory that is wanted once more, by where a container sees it."""
    made: set[str] = set()
    for checksum in sorted(objects):
        with repo.open_content(checksum) as content:
            info = content.info
            name = _name(checksum.hex())
            # not the label: no container has it, and unpackers may not be allowed to set it
            shown = tar.xattrs([pair for pair in info.xattrs if pair[0] != _LABEL])
            mode = info.mode & _PERMISSIONS
            kind, link = (tar.REGULAR, "") if info.target is None else (tar.SYMLINK, info.target)
            yield tar.file(f"{name}.file-xattrs-link", encode_xattrs(info.xattrs)) + tar.entry(
                f"{name}.file", kind, mode=mode, uid=info.uid, gid=info.gid, size=content.size, link=link, more=shown
            )
            yield from content.pieces
            rows = [tar.padding(content.size)]
            for path in contents.files[checksum]:
                if (place := _shown(path)) is None:
                    continue
                rows += _parents(repo, place, above, made)
                rows.append(_visible(place, f"{name}.file", info, content.size, shown))
            yield b"".join(rows)
        advance()


def _visible(path: str, source: str, info: FileInfo, size: int, more: bytes) -> bytes:
    mode, uid, gid = info.mode & _PERMISSIONS, info.uid, info.gid
    if info.target is None and not size:
        # a container that writes to one empty file of many must not write to all of them, and to the object
        return tar.entry(path, tar.REGULAR, mode=mode, uid=uid, gid=gid, more=more)
    return tar.entry(path, tar.LINK, mode=mode, uid=uid, gid=gid, link=source)


def _parents(repo: Repo, path: str, above: Mapping[str, bytes], made: set[str]) -> list[bytes]:
    """Entries of the directories that a path is in, those that are wanted and not there yet, the uppermost first."""
    rows: list[bytes] = []
    while (path := path.rpartition("/")[0]) and path not in made:
        made.add(path)
        if path in above:
            rows.append(_directory(repo, path, above[path]))
    return rows[::-1]
