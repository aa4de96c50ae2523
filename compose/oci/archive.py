"""OCI archives: a layout in one tar file, as skopeo and podman have it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from compose import fs
from compose.errors import ImageError
from compose.oci import tar
from compose.oci.image import digest_of
from compose.oci.layout import BLOBS, INDEX, LAYOUT, check_version, choose, digest_in, find, parse_index

if TYPE_CHECKING:
    import tarfile

_MOST_JSON = 16 << 20


def write_archive(layout: str, path: str) -> None:
    """Put a layout's files into one, in order of their names. What is at the path stays until it is whole. Raises
    StorageError."""
    temporary = f"{path}.{os.urandom(6).hex()}.tmp"
    with fs.storage_errors(path):
        try:
            out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                for name in (*(f"{BLOBS}/{each}" for each in sorted(os.listdir(f"{layout}/{BLOBS}"))), INDEX, LAYOUT):
                    _append(out, f"{layout}/{name}", name)
                fs.write_all(out, tar.END)
                os.fsync(out)
            finally:
                os.close(out)
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def _append(out: int, path: str, name: str) -> None:
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(source).st_size
        fs.write_all(out, tar.entry(name, tar.REGULAR, mode=0o644, size=size))
        for piece in fs.chunks(source):
            fs.write_all(out, piece)
        fs.write_all(out, tar.padding(size))
    finally:
        os.close(source)


class Archive:
    """One that is open for reading."""

    def __init__(self, path: str, file: tarfile.TarFile) -> None:
        self._path = path
        self._file = file

    def find_manifest(self, tag: str | None) -> bytes | None:
        """Of an image, None when there is none such. Raises ImageError when more than one could be meant."""
        row = find(parse_index(self._member(INDEX), self._path), tag, self._path)
        return self.read(digest_in(row, self._path)) if row is not None else None

    def manifest(self, tag: str | None) -> bytes:
        """Of an image. Raises ImageError when there is none such, or more than one that could be meant."""
        return self.read(digest_in(choose(parse_index(self._member(INDEX), self._path), tag, self._path), self._path))

    def read(self, digest: str) -> bytes:
        """A blob of JSON. Raises ImageError when it is missing or damaged."""
        data = self._member(f"{BLOBS}/{digest}")
        if digest_of(data) != digest:
            raise ImageError(f"{self._path}: the blob sha256:{digest} is damaged")
        return data

    @contextmanager
    def open_blob(self, digest: str) -> Iterator[IO[bytes]]:
        """A blob of any size, not looked at. Raises ImageError when it is missing."""
        member = self._find(f"{BLOBS}/{digest}")
        file = self._file.extractfile(member) if member is not None else None
        if file is None:
            raise ImageError(f"{self._path}: has no blob sha256:{digest}")
        with file:
            yield file

    def check(self) -> None:
        """Raises ImageError for what is none."""
        check_version(self._path, self._member(LAYOUT))

    def _member(self, name: str) -> bytes:
        member = self._find(name)
        file = self._file.extractfile(member) if member is not None and member.size <= _MOST_JSON else None
        if file is None:
            raise ImageError(f"{self._path}: is no OCI archive: it has no {name}")
        with _damage(self._path):
            return file.read()

    def _find(self, name: str) -> tarfile.TarInfo | None:
        """None for what is no file."""
        for spelling in (name, f"./{name}"):
            with _damage(self._path), contextlib.suppress(KeyError):
                member = self._file.getmember(spelling)
                # no link: it leads to what has another name, and may lead in a circle
                return member if member.isreg() else None
        return None


@contextmanager
def open_archive(path: str) -> Iterator[Archive]:
    """Raises ImageError for what is none, or cannot be read."""
    # late: who writes one has no use for it
    import tarfile

    with _damage(path):
        file = tarfile.open(path)  # noqa: SIM115
    with file:
        archive = Archive(path, file)
        archive.check()
        yield archive


@contextmanager
def _damage(path: str) -> Iterator[None]:
    import lzma
    import tarfile
    import zlib

    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, RecursionError) as error:
        # it may be compressed, as skopeo takes it too
        raise ImageError(f"{path}: is no OCI archive: {error}") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from error


def read_archived_manifest(path: str, tag: str | None) -> bytes:
    """Raises ImageError when there is none such, or it is damaged."""
    with open_archive(path) as archive:
        return archive.manifest(tag)
