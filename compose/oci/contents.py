"""The contents of an image's layers: the objects of one commit as a bare-split-xattrs repository, and hard links to them at the
paths where containers see the files.

    sysroot/ostree/repo/objects/ab/cdef….commit             first layer: commit, .commitmeta, every .dirtree and .dirmeta
    sysroot/ostree/repo/objects/ab/cdef….file-xattrs-link   a(ayay), the xattrs of the file object that follows at once
    sysroot/ostree/repo/objects/ab/cdef….file               content; owner and mode are those of the tar entry
    usr/bin/bash                                            hard link to its object

Format: ostree-ext, tar/export.rs and tar/import.rs. The importer requires that the commit comes before everything else in the
repository, followed by its detached metadata; that only the first layer has metadata; that xattrs come right before their
object; that a layer has no object twice; and that metadata objects have at most 10 MiB. Each object has a file of xattrs of its
own, as in ostree-ext since sharing them exceeded the number of hard links that filesystems allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from compose.errors import RepositoryError
from compose.oci import tar
from compose.ostree.objects import FileInfo, encode_xattrs
from compose.ostree.repo import Repo
from compose.tree import name_of, parent_of

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
_MAX_METADATA = 10 << 20
_PERMISSIONS = 0o7777
_LABEL = b"security.selinux"
_USER = b"user."
_WHITEOUT = ".wh."

Advance = Callable[[], None]
"""Called after each object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of a commit.

    directories: (path, dirtree, dirmeta), parents first; the root is "". files: sorted paths by file object (32 bytes), in
    order of the objects.
    """

    commit: str
    directories: tuple[tuple[str, bytes, bytes], ...]
    files: Mapping[bytes, tuple[str, ...]]

    @property
    def hidden(self) -> tuple[str, ...]:
        """Paths named like whiteouts: clients get them, but containers cannot see them."""
        paths = chain((path for path, _, _ in self.directories), *self.files.values())
        return tuple(sorted(path for path in paths if name_of(path).startswith(_WHITEOUT)))


def read_contents(repo: Repo, commit: str) -> Contents:
    """List the directories and files of a commit. Raises RepositoryError when an object is missing or damaged, or when a
    container could not have all files."""
    if repo.is_partial(commit):
        raise RepositoryError(
            f"{repo.path}: commit {commit} is partial", hint="pull all of it: ostree pull, without --subpath"
        )
    # checked before any layer is written
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
            f"{repo.path}: commit {commit} has both /etc and /usr/etc, which are the same directory in a container",
            hint="a tree for clients has only /usr/etc; see compose lint",
        )
    return Contents(
        commit=commit,
        directories=tuple(directories),
        files={checksum: tuple(sorted(files[checksum])) for checksum in sorted(files)},
    )


def first_layer(repo: Repo, contents: Contents, objects: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    """The tar stream of the layer with the commit, all directories, and these file objects. Raises RepositoryError."""
    yield _directory(repo, "./", contents.directories[0][2])
    yield _repository()
    yield _metadata(contents.commit, "commit", repo.read_metadata(contents.commit, "commit"))
    if detached := repo.read_detached_bytes(contents.commit):
        yield _metadata(contents.commit, "commitmeta", detached)
    written: set[bytes] = set()
    directories = set()
    for path, tree, meta in contents.directories:
        # dirmeta first, as in ostree-ext
        for checksum, kind in ((meta, "dirmeta"), (tree, "dirtree")):
            if checksum not in written:
                written.add(checksum)
                yield _metadata(checksum.hex(), kind, repo.read_metadata(checksum.hex(), kind))
        if path and (visible := _container_path(path)):
            directories.add(visible)
            yield _directory(repo, visible, meta)
    # a symlink's target is left to others
    linked = any(path in ("var", "var/tmp") for paths in contents.files.values() for path in paths)
    if "var/tmp" not in directories and not linked:
        # clients create it at boot, but programs in a container need it too
        if "var" not in directories:
            yield tar.entry("var", tar.DIRECTORY, mode=0o755)
        yield tar.entry("var/tmp", tar.DIRECTORY, mode=0o1777)
    yield from _files(repo, contents, objects, {}, advance)
    yield tar.END


def component_layer(
    repo: Repo, contents: Contents, objects: Iterable[bytes], parents: bool, advance: Advance
) -> Iterator[bytes]:
    """The tar stream of a layer with these file objects only. parents: repeat the directories that their paths are in, for
    unpackers that invent owner and mode of a directory missing from a layer. Raises RepositoryError."""
    yield _repository()
    repeated = {}
    if parents:
        repeated = {visible: meta for path, _, meta in contents.directories if (visible := _container_path(path))}
    yield from _files(repo, contents, objects, repeated, advance)
    yield tar.END


def _repository() -> bytes:
    rows = [tar.entry(path, tar.DIRECTORY, mode=0o755) for path in _DIRECTORIES]
    return b"".join((*rows, tar.file(f"{_REPOSITORY}/config", _CONFIG)))


def _metadata(checksum: str, kind: str, data: bytes) -> bytes:
    _check_size(checksum, kind, data)
    return tar.file(f"{_name(checksum)}.{kind}", data)


def _check_size(checksum: str, kind: str, data: bytes) -> None:
    if len(data) > _MAX_METADATA:
        raise RepositoryError(
            f"the object {checksum}.{kind} has {len(data)} bytes; importers of container images accept {_MAX_METADATA}",
            hint="keep large metadata out of the commit, for example advisories with advisories-metadata: detached"
            if kind == "commit"
            else None,
        )


def _name(checksum: str) -> str:
    return f"{_OBJECTS}/{checksum[:2]}/{checksum[2:]}"


def _container_path(path: str) -> str | None:
    """Where a container sees a path of the commit; None if it cannot see it."""
    if path == "sysroot" or path == _OSTREE or path.startswith(f"{_OSTREE}/"):
        # the image has its repository there
        return None
    if f"/{_WHITEOUT}" in f"/{path}":
        return None
    if path == "usr/etc" or path.startswith("usr/etc/"):
        return path.removeprefix("usr/")
    return path


def _directory(repo: Repo, path: str, meta: bytes) -> bytes:
    owner = repo.read_dirmeta(meta)
    # such as user.component, for an image made from this one; overlayfs would act upon its own in a layer
    xattrs = tar.xattrs([pair for pair in owner.xattrs if pair[0].startswith(_USER)])
    return tar.entry(path, tar.DIRECTORY, mode=owner.mode & _PERMISSIONS, uid=owner.uid, gid=owner.gid, more=xattrs)


def _files(
    repo: Repo, contents: Contents, objects: Iterable[bytes], repeated: Mapping[str, bytes], advance: Advance
) -> Iterator[bytes]:
    """Tar entries of objects and of the files that link to them. repeated: dirmeta of the directories to write again before
    their first file, by container path."""
    written: set[str] = set()
    for checksum in sorted(objects):
        with repo.open_content(checksum) as content:
            info = content.info
            name = _name(checksum.hex())
            # without the SELinux label: containers do not use it, and unpackers may not be allowed to set it
            xattrs = tar.xattrs([pair for pair in info.xattrs if pair[0] != _LABEL])
            mode = info.mode & _PERMISSIONS
            kind, link = (tar.REGULAR, "") if info.target is None else (tar.SYMLINK, info.target)
            yield tar.file(f"{name}.file-xattrs-link", encode_xattrs(info.xattrs)) + tar.entry(
                f"{name}.file", kind, mode=mode, uid=info.uid, gid=info.gid, size=content.size, link=link, more=xattrs
            )
            yield from content.pieces
            entries = [tar.padding(content.size)]
            for path in contents.files[checksum]:
                if (visible := _container_path(path)) is None:
                    continue
                entries += _parents(repo, visible, repeated, written)
                entries.append(_visible_file(visible, f"{name}.file", info, content.size, xattrs))
            yield b"".join(entries)
        advance()


def _visible_file(path: str, source: str, info: FileInfo, size: int, xattrs: bytes) -> bytes:
    """The file as containers see it: a hard link to its object, unless it is empty."""
    mode, uid, gid = info.mode & _PERMISSIONS, info.uid, info.gid
    if info.target is None and not size:
        # a container that writes to one empty file must not change all others and the object
        return tar.entry(path, tar.REGULAR, mode=mode, uid=uid, gid=gid, more=xattrs)
    return tar.entry(path, tar.LINK, mode=mode, uid=uid, gid=gid, link=source)


def _parents(repo: Repo, path: str, repeated: Mapping[str, bytes], written: set[str]) -> list[bytes]:
    """Entries of the parents of a path that are to be repeated and have not been written yet, the uppermost first."""
    entries: list[bytes] = []
    while (path := parent_of(path)) and path not in written:
        written.add(path)
        if path in repeated:
            entries.append(_directory(repo, path, repeated[path]))
    return entries[::-1]
