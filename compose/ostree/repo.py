"""A repository on disk: open, create and read it.

config                    keyfile                     refs/heads/NAME     64 hex digits
objects/ab/cdef….EXT      objects by checksum         state/*.commitpartial
tmp/compose-staging-*     transactions under way      summary, summary.sig
.lock                     see compose.ostree.lock
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

from compose import fs
from compose.errors import RepositoryError
from compose.ostree import refs
from compose.ostree.config import Config, Mode, parse_config, read_config
from compose.ostree.gvariant import decode, encode
from compose.ostree.objects import (
    MAX_METADATA_SIZE,
    Commit,
    Dirmeta,
    Dirtree,
    Metadata,
    check_mode,
    decode_commit,
    decode_dirmeta,
    decode_dirtree,
    encode_xattrs,
    object_name,
)
from compose.ostree.reading import OpenContent, open_object, verified

_DIRECTORIES = (
    "tmp",
    "tmp/cache",
    "extensions",
    "state",
    "refs",
    "refs/heads",
    "refs/mirrors",
    "refs/remotes",
    "objects",
)
_PREFIX = re.compile(r"[0-9a-f]{2,63}")
MOST_PATHS = 4_000_000
"""Paths up to which a commit is walked through. Directories that contain the same one several times, on several levels, stand
for any number of paths in a few objects."""
_LONGEST_PATH = 4096
"""Characters of a directory's path: PATH_MAX of Linux. Without a limit, the paths of directories in each other would cost the
square of their number."""
_COLLECTION_ID = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
"""Same as the names of D-Bus interfaces (ostree_validate_collection_id())."""
_Decoded = TypeVar("_Decoded")
_KNOWN_MODES = (Mode.ARCHIVE, Mode.BARE_USER, Mode.BARE)


class Repo:
    """An open repository, and a context manager that closes it. path: absolute. fd: descriptor of its directory."""

    def __init__(self, path: str, fd: int, config: Config) -> None:
        self.path = path
        self.fd = fd
        self.config = config

    @classmethod
    def open(cls, path: str) -> Self:
        """Open an existing repository. Raises RepositoryError if there is none, or if its config cannot be read."""
        path = os.path.abspath(path)
        hint = f"create one: ostree --repo={path} init --mode=archive"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RepositoryError(f"cannot open the repository {path}: {error.strerror}", hint=hint) from error
        try:
            for name in ("config", "objects"):
                if not os.path.exists(os.path.join(path, name)):
                    raise RepositoryError(f"{path} is not an OSTree repository: it has no {name}", hint=hint)
            config = os.path.join(path, "config")
            try:
                text = read_config(config)
            except OSError as error:
                raise RepositoryError(f"cannot read {config}: {error.strerror}") from error
            except ValueError as error:
                raise RepositoryError(f"cannot read {config}: {error}") from error
            return cls(path, fd, parse_config(text, config))
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def create(
        cls, path: str, mode: Mode = Mode.ARCHIVE, *, composefs: bool = False, collection_id: str | None = None
    ) -> Self:
        """Create a repository as `ostree init` does, unless there is one, and open it.

        composefs: shall its commits contain the composefs digest? collection_id: a reversed domain name under which clients
        know the repository. Raises StorageError if it cannot be written, RepositoryError if the id is not valid, or if a file
        is in the way.
        """
        if collection_id and not _COLLECTION_ID.fullmatch(collection_id):
            raise RepositoryError(f"{collection_id!r} is not a valid collection ID")
        path = os.path.abspath(path)
        with fs.storage_errors(path):
            try:
                for name in ("", *_DIRECTORIES):
                    os.makedirs(os.path.join(path, name), mode=0o775, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise RepositoryError(f"cannot create a repository at {path}: {error.strerror}") from error
            config = os.path.join(path, "config")
            if not os.path.exists(config):
                text = f"[core]\nrepo_version=1\nmode={mode}\n"
                text += f"collection-id={collection_id}\n" if collection_id else ""
                text += "\n[ex-integrity]\ncomposefs=yes\n" if composefs else ""
                fs.atomic_write(config, text.encode())
        return cls.open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.fd)

    def check_writable(self) -> None:
        """Raise RepositoryError if commits cannot be written to the repository. Makes empty directories that it lacks."""
        if self.config.mode not in _KNOWN_MODES:
            raise RepositoryError(
                f"{self.path} is a {self.config.mode} repository, which cannot be committed to",
                hint="commit to an archive, bare-user or bare repository; clients can pull from it into one of another mode",
            )
        if self.config.parent is not None:
            raise RepositoryError(
                f"{self.path} uses objects of {self.config.parent} (core.parent), which composes do not support",
                hint=f"compose into {self.config.parent}, and pull from it: ostree pull-local",
            )
        if self.config.mode is Mode.BARE and not _is_root():
            raise RepositoryError(
                f"{self.path} is a bare repository, whose files have the owners, modes and capabilities of the system, so "
                "that only root can write it",
                hint="compose as root outside of user namespaces, or commit to an archive or bare-user repository",
            )
        with suppress(OSError):
            # copies made by git or from a bucket have no empty directories
            for name in ("tmp", "refs/heads", "refs/remotes"):
                os.makedirs(os.path.join(self.path, name), mode=0o775, exist_ok=True)
        for name in (".", "objects", "tmp", "refs/heads"):
            if not os.access(name, os.W_OK | os.X_OK, dir_fd=self.fd):
                raise RepositoryError(
                    f"the repository {self.path} is not writable", hint="use it as its owner, or another repository"
                )

    def has_summary(self) -> bool:
        """Does the repository have a summary?"""
        return os.path.lexists(os.path.join(self.path, "summary"))

    def resolve(self, revision: str) -> str | None:
        """Checksum of the commit that a revision names, None if there is none.

        A revision is a ref, a full checksum, or the unique beginning of one, followed by any number of "^", each of which means
        the parent. Raises RepositoryError if it is malformed or ambiguous, or if a commit before "^" is missing.
        """
        name = revision.rstrip("^")
        checksum: str | None = name
        if not refs.is_checksum(name):
            checksum = refs.read_ref(self.fd, name) or self._complete_prefix(name)
        for _ in range(len(revision) - len(name)):
            checksum = self.read_commit(checksum, ()).parent.hex() if checksum else None
        return checksum or None

    def commit_of(self, revision: str) -> str:
        """Checksum of the commit that a revision names. Raises RepositoryError if there is none."""
        checksum = self.resolve(revision)
        if checksum is None or not self.has(checksum, "commit"):
            name = revision.rstrip("^")
            if checksum is None and name != revision and self.resolve(name):
                raise RepositoryError(
                    f"{self.path} has no commit {revision}: the history of {name} is shorter",
                    hint=f"see: ostree --repo={self.path} log {name}",
                )
            raise RepositoryError(f"{self.path} has no commit {revision}", hint=f"see: ostree --repo={self.path} refs")
        return checksum

    def _complete_prefix(self, prefix: str) -> str | None:
        if not _PREFIX.fullmatch(prefix):
            return None
        found = [
            f"{path.parent.name}{path.stem}"
            for path in Path(self.path, "objects", prefix[:2]).glob(f"{prefix[2:]}*.commit")
        ]
        if len(found) > 1:
            raise RepositoryError(f"{prefix} is the beginning of {len(found)} commits", hint="give more digits")
        return found[0] if found else None

    def refs(self) -> dict[str, str]:
        """Checksums of all local refs by name, sorted by name as bytes. Raises RepositoryError."""
        return refs.list_refs(self.fd)

    def has(self, checksum: str, extension: str) -> bool:
        """Does an object exist? extension: "commit", "dirtree", "dirmeta" or the like."""
        return os.path.exists(self._path_of(checksum, extension))

    def size_of(self, checksum: str, extension: str) -> int:
        """Size of an object's file in bytes. Raises RepositoryError if it is missing."""
        try:
            return os.lstat(self._path_of(checksum, extension)).st_size
        except OSError as error:
            raise self.unreadable(f"{checksum}.{extension}", error.strerror or str(error)) from error

    def is_partial(self, commit: str) -> bool:
        """Is the commit marked as one of which only a part was pulled?"""
        return os.path.exists(os.path.join(self.path, "state", f"{commit}.commitpartial"))

    def read_commit(self, checksum: str, keys: Container[str] | None = None) -> Commit:
        """Read a commit. keys: of the metadata to decode, None for all; decoding a package list takes time. Raises
        RepositoryError if the object is missing or damaged."""
        return self._read_decoded(checksum, "commit", lambda data: decode_commit(data, keys))

    def read_detached(self, commit: str) -> Metadata:
        """The detached metadata of a commit, empty if it has none. Raises RepositoryError if it is damaged."""
        data = self._read(commit, "commitmeta") if self.has(commit, "commitmeta") else b""
        with self._object_errors(commit, "commitmeta"):
            return tuple(decode("a{sv}", data))

    def read_metadata(self, checksum: str, extension: str) -> bytes:
        """The bytes of a "commit", "dirtree" or "dirmeta" object. Raises RepositoryError if it is missing or damaged, or if
        clients would refuse it."""

        def checked(data: bytes) -> bytes:
            _CHECKS[extension](data)
            return data

        return self._read_decoded(checksum, extension, checked)

    def read_detached_bytes(self, commit: str) -> bytes:
        """read_detached() in its serialised form."""
        return encode("a{sv}", self.read_detached(commit))

    def read_dirtree(self, checksum: bytes) -> Dirtree:
        """Read a dirtree. checksum: 32 bytes. Raises RepositoryError if the object is missing or damaged."""
        return self._read_decoded(checksum.hex(), "dirtree", decode_dirtree)

    def read_dirmeta(self, checksum: bytes) -> Dirmeta:
        """Read a dirmeta. checksum: 32 bytes. Raises RepositoryError if the object is missing or damaged."""
        return self._read_decoded(checksum.hex(), "dirmeta", _decode_directory)

    def walk(self, commit: str, *, most: int = sys.maxsize) -> Iterator[tuple[str, bytes, bytes | None]]:
        """Yield everything in a commit, each directory before its contents.

        That is (path, checksum, None) for a file or symlink, and (path, dirtree checksum, dirmeta checksum) for a directory.
        The path of the root is "". Checksums are 32 bytes. most: places at which the contents of the same dirtree are looked
        at; a few dirtrees can stand for any number of paths. Raises RepositoryError if the commit or a dirtree is missing or
        damaged, or if there are more than MOST_PATHS or longer ones than the kernel takes.
        """
        root = self.read_commit(commit, ())
        places: Counter[bytes] = Counter()
        pending = [("", root.root_tree, root.root_meta)]
        paths = 0
        while pending:
            if paths > MOST_PATHS:
                raise RepositoryError(
                    f"{self.path}: {commit} has more than {MOST_PATHS} paths, and so is not of a system"
                )
            path, checksum, meta = pending.pop()
            if len(path) > _LONGEST_PATH:
                raise RepositoryError(
                    f"{self.path}: {commit} has paths of more than {_LONGEST_PATH} characters, and so is not of a system"
                )
            yield path, checksum, meta
            places[checksum] += 1
            if places[checksum] > most:
                continue
            tree = self.read_dirtree(checksum)
            paths += 1 + len(tree.files)
            below = f"{path}/" if path else ""
            for name, content in tree.files:
                yield below + name, content, None
            pending += [(below + name, inner, owner) for name, inner, owner in reversed(tree.directories)]

    def read_directory(self, commit: str | Commit, path: str) -> Dirtree | None:
        """The contents of a directory of a commit, None if there is no such directory. Symlinks are not followed.

        commit: its checksum, or the commit as read. path: "" for the root. Raises RepositoryError if the commit or a dirtree is
        missing or damaged.
        """
        root = commit if isinstance(commit, Commit) else self.read_commit(commit, ())
        tree = self.read_dirtree(root.root_tree)
        for part in filter(None, path.split("/")):
            found = next((row for row in tree.directories if row[0] == part), None)
            if found is None:
                return None
            tree = self.read_dirtree(found[1])
        return tree

    def read_file(self, commit: str, path: str) -> bytes | None:
        """The contents of a regular file of a commit, None if there is no such file. Symlinks are not followed.

        Raises RepositoryError if an object on the way is missing or damaged.
        """
        above, _, name = path.rpartition("/")
        tree = self.read_directory(commit, above)
        return None if tree is None else self.read_file_in(tree, name)

    def read_file_in(self, directory: Dirtree, name: str) -> bytes | None:
        """Like read_file(), for a name in a directory that has been read."""
        checksum = next((row[1] for row in directory.files if row[0] == name), None)
        if checksum is None:
            return None
        with self.open_content(checksum) as content:
            return b"".join(content.pieces) if content.info.target is None else None

    def open_content(self, checksum: bytes) -> OpenContent:
        """Open the object of a regular file or symlink. checksum: 32 bytes.

        Raises RepositoryError if it is missing or damaged; damaged contents of a file are found only when all pieces have been
        read.
        """
        mode = self.config.mode
        if mode not in _KNOWN_MODES:
            raise RepositoryError(
                f"{self.path}: cannot read files of a {mode} repository",
                hint="pull the commit into an archive, bare-user or bare repository",
            )
        text, extension = checksum.hex(), mode.content_extension
        with self._object_errors(text, extension):
            content = open_object(self._path_of(text, extension), mode)
        pieces = self._verified(text, extension, content)
        if content.info.target is not None:
            try:
                # verify it now: a symlink has no pieces that the caller would read
                pieces = iter([*pieces])
            except BaseException:
                content.close()
                raise
        return OpenContent(content.info, content.size, pieces, content.fd)

    def _verified(self, checksum: str, extension: str, content: OpenContent) -> Iterator[bytes]:
        with self._object_errors(checksum, extension):
            yield from verified(content, checksum)

    def _path_of(self, checksum: str, extension: str) -> str:
        return f"{self.path}/objects/{object_name(checksum, extension)}"

    def _read(self, checksum: str, extension: str) -> bytes:
        try:
            with fs.open_regular(self._path_of(checksum, extension), follow_symlinks=False) as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_METADATA_SIZE:
                    raise self.damaged(
                        f"{checksum}.{extension}", f"it has {size} bytes, but clients accept {MAX_METADATA_SIZE}"
                    )
                return file.read(size)
        except OSError as error:
            raise self.unreadable(f"{checksum}.{extension}", error.strerror or str(error)) from error

    def unreadable(self, name: str, why: str) -> RepositoryError:
        """The error for an object that is missing or cannot be read. name: "CHECKSUM.EXT"."""
        return RepositoryError(
            f"{self.path}: cannot read the object {name}: {why}",
            hint=f"see what else is missing: ostree --repo={self.path} fsck",
        )

    def damaged(self, name: str, why: str) -> RepositoryError:
        """The error for a damaged object. name: "CHECKSUM.EXT"."""
        return RepositoryError(
            f"{self.path}: the object {name} is damaged: {why}",
            hint=f"see what else is damaged: ostree --repo={self.path} fsck",
        )

    def _read_decoded(self, checksum: str, extension: str, decode: Callable[[bytes], _Decoded]) -> _Decoded:
        data = self._read(checksum, extension)
        with self._object_errors(checksum, extension):
            if hashlib.sha256(data).hexdigest() != checksum:
                raise ValueError("its checksum differs")
            return decode(data)

    @contextmanager
    def _object_errors(self, checksum: str, extension: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self.unreadable(f"{checksum}.{extension}", error.strerror or str(error)) from error
        except ValueError as error:
            raise self.damaged(f"{checksum}.{extension}", str(error)) from error


def _decode_directory(data: bytes) -> Dirmeta:
    found = decode_dirmeta(data)
    check_mode(found.mode, stat.S_IFDIR)
    return found


def _check_directory(data: bytes) -> None:
    if encode_xattrs(_decode_directory(data).xattrs) != data[12:]:
        # older versions of libostree wrote them as they were on the disk
        raise ValueError("its xattrs are not sorted by name, and clients refuse it")


_CHECKS: dict[str, Callable[[bytes], object]] = {
    "commit": lambda data: decode_commit(data, ()),
    "dirtree": decode_dirtree,
    "dirmeta": _check_directory,
}
"""Raise ValueError for what clients would refuse."""


def _is_root() -> bool:
    """Is this process root, and not in a user namespace, where ids are mapped and capabilities restricted?"""
    identity = Path("/proc/self/uid_map").read_text().split()
    return os.geteuid() == 0 and identity == ["0", "0", "4294967295"]
