"""A repository on disk: open or make one, read what is in it.

config                    keyfile                     refs/heads/NAME     64 hex digits
objects/ab/cdef….EXT      objects by checksum         state/*.commitpartial
tmp/staging-*             transactions under way      summary, summary.sig
.lock                     see compose.ostree.lock
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from compose import fs
from compose.errors import RepositoryError
from compose.ostree import refs
from compose.ostree.config import Config, Mode, parse_config
from compose.ostree.objects import Commit, Dirtree, decode_commit, decode_dirmeta, decode_dirtree

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
_Decoded = TypeVar("_Decoded")
_WRITABLE_MODES = (Mode.ARCHIVE, Mode.BARE_USER)


class Repo:
    """An open repository; a context manager, for it holds a descriptor. path is absolute."""

    def __init__(self, path: str, fd: int, config: Config) -> None:
        self.path = path
        self.fd = fd
        self.config = config

    @classmethod
    def open(cls, path: str) -> Self:
        """Open an existing repository. Raises RepositoryError saying what is missing, and how to make one."""
        path = os.path.abspath(path)
        hint = f"make one: ostree --repo={path} init --mode=archive"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise RepositoryError(f"cannot open the repository {path}: {error.strerror}", hint=hint) from error
        try:
            for name in ("config", "objects"):
                if not os.path.exists(os.path.join(path, name)):
                    raise RepositoryError(f"{path} is not an OSTree repository: it has no {name}", hint=hint)
            config_path = os.path.join(path, "config")
            return cls(path, fd, parse_config(Path(config_path).read_text(), config_path))
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def create(cls, path: str, mode: Mode = Mode.ARCHIVE) -> Self:
        """Make a repository where there is none, as `ostree init` does, and open it. Raises StorageError."""
        path = os.path.abspath(path)
        with fs.storage_errors(path):
            for name in ("", *_DIRECTORIES):
                os.makedirs(os.path.join(path, name), mode=0o775, exist_ok=True)
            config = os.path.join(path, "config")
            if not os.path.exists(config):
                fs.atomic_write(config, f"[core]\nrepo_version=1\nmode={mode}\n".encode())
        return cls.open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.fd)

    def check_writable(self) -> None:
        """Raise RepositoryError now when a commit could not be written later."""
        if self.config.mode not in _WRITABLE_MODES:
            raise RepositoryError(
                f"{self.path} is a {self.config.mode} repository, which cannot be committed to",
                hint="commit to an archive or bare-user repository; clients pull from it into any other",
            )
        for name in (".", "objects", "tmp", "refs/heads"):
            if not os.access(name, os.W_OK | os.X_OK, dir_fd=self.fd) or os.fstatvfs(self.fd).f_flag & os.ST_RDONLY:
                raise RepositoryError(
                    f"the repository {self.path} is not writable", hint="compose as its owner, or give another --repo"
                )

    def resolve(self, revision: str) -> str | None:
        """Checksum of a ref or of a full checksum; None when there is no such ref."""
        return revision if refs.is_checksum(revision) else refs.read_ref(self.fd, revision)

    def has(self, checksum: str, extension: str) -> bool:
        """Is the object there? extension: "commit", "dirtree", "dirmeta"."""
        return os.path.exists(self._object(checksum, extension))

    def is_partial(self, commit: str) -> bool:
        """Was the commit pulled in part only?"""
        return os.path.exists(os.path.join(self.path, "state", f"{commit}.commitpartial"))

    def read_commit(self, checksum: str) -> Commit:
        """Raises RepositoryError when the object is missing or damaged."""
        return self._decoded(checksum, "commit", decode_commit)

    def read_dirtree(self, checksum: bytes) -> Dirtree:
        """Raises RepositoryError when the object is missing or damaged."""
        return self._decoded(checksum.hex(), "dirtree", decode_dirtree)

    def read_file(self, commit: str, path: str) -> bytes | None:
        """Content of a regular file of a commit, None when it has none such. Symlinks are not followed.

        Raises RepositoryError when an object on the way is missing or damaged.
        """
        *above, name = path.split("/")
        tree = self.read_dirtree(self.read_commit(commit).root_tree)
        for part in above:
            found = next((row for row in tree.directories if row[0] == part), None)
            if found is None:
                return None
            tree = self.read_dirtree(found[1])
        for each, checksum in tree.files:
            if each == name:
                return self._read_content(checksum.hex())
        return None

    def _read_content(self, checksum: str) -> bytes | None:
        archive = self.config.mode is Mode.ARCHIVE
        raw = self._read(checksum, "filez" if archive else "file")
        if not archive:
            mode = 0o100000
            if self.config.mode is Mode.BARE_USER:
                mode = decode_dirmeta(os.getxattr(self._object(checksum, "file"), "user.ostreemeta")).mode
            return raw if mode & 0o170000 == 0o100000 else None
        size = int.from_bytes(raw[:4], "big")
        header, payload = raw[8 : 8 + size], raw[8 + size :]
        if int.from_bytes(header[16:20], "big") & 0o170000 != 0o100000:
            return None
        try:
            return zlib.decompress(payload, -15)
        except zlib.error as error:
            raise RepositoryError(f"{self.path}: the object {checksum}.filez is damaged: {error}") from error

    def _object(self, checksum: str, extension: str) -> str:
        return os.path.join(self.path, "objects", checksum[:2], f"{checksum[2:]}.{extension}")

    def _read(self, checksum: str, extension: str) -> bytes:
        try:
            return Path(self._object(checksum, extension)).read_bytes()
        except OSError as error:
            raise RepositoryError(
                f"{self.path}: cannot read the object {checksum}.{extension}: {error.strerror}",
                hint=f"see what else is missing: ostree --repo={self.path} fsck",
            ) from error

    def _decoded(self, checksum: str, extension: str, decode: Callable[[bytes], _Decoded]) -> _Decoded:
        data = self._read(checksum, extension)
        try:
            if hashlib.sha256(data).hexdigest() != checksum:
                raise ValueError("its checksum differs")
            return decode(data)
        except ValueError as error:
            raise RepositoryError(
                f"{self.path}: the object {checksum}.{extension} is damaged: {error}",
                hint=f"see what else is damaged: ostree --repo={self.path} fsck",
            ) from error
