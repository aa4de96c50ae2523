"""OCI archives: a layout in a single tar file, as written and read by skopeo and podman."""

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
from compose.oci.layout import BLOBS, INDEX, LAYOUT, MAX_JSON, check_version, choose, digest_in, find, parse_index

if TYPE_CHECKING:
    import tarfile


def write_archive(layout: str, path: str) -> None:
    """Write a layout as an archive, its files in order of their names. An existing file is replaced when the archive is
    complete. Raises StorageError."""
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
    """An archive that is open for reading."""

    def __init__(self, path: str, file: tarfile.TarFile) -> None:
        self._path = path
        self._file = file

    def find_manifest(self, tag: str | None) -> bytes | None:
        """The manifest of an image, None when it does not exist. Raises ImageError when the tag is ambiguous."""
        row = find(parse_index(self._member(INDEX), self._path), tag, self._path)
        return self.read(digest_in(row, self._path)) if row is not None else None

    def manifest(self, tag: str | None) -> bytes:
        """The manifest of an image. Raises ImageError when it does not exist or the tag is ambiguous."""
        return self.read(digest_in(choose(parse_index(self._member(INDEX), self._path), tag, self._path), self._path))

    def read(self, digest: str) -> bytes:
        """Read a JSON blob. Raises ImageError when it is missing or damaged."""
        data = self._member(f"{BLOBS}/{digest}")
        if digest_of(data) != digest:
            raise ImageError(f"{self._path}: the blob sha256:{digest} is damaged")
        return data

    @contextmanager
    def open_blob(self, digest: str) -> Iterator[IO[bytes]]:
        """Open a blob of any size without verifying it. Raises ImageError when it is missing."""
        member = self._find(f"{BLOBS}/{digest}")
        file = self._file.extractfile(member) if member is not None else None
        if file is None:
            raise ImageError(f"{self._path}: has no blob sha256:{digest}")
        with file:
            yield file

    def check(self) -> None:
        """Raises ImageError when this is not an OCI archive."""
        check_version(self._path, self._member(LAYOUT))

    def _member(self, name: str) -> bytes:
        member = self._find(name)
        file = self._file.extractfile(member) if member is not None and member.size <= MAX_JSON else None
        if file is None:
            reason = f"it has no {name}" if member is None else f"{name} has more than {MAX_JSON} bytes"
            raise ImageError(f"{self._path}: not an OCI archive: {reason}")
        with _damage(self._path):
            return file.read()

    def _find(self, name: str) -> tarfile.TarInfo | None:
        """The regular file with a name, None if there is none."""
        for spelling in (name, f"./{name}"):
            with _damage(self._path), contextlib.suppress(KeyError):
                member = self._file.getmember(spelling)
                # links are not followed: they might form a loop
                return member if member.isreg() else None
        return None


@contextmanager
def open_archive(path: str) -> Iterator[Archive]:
    """Open an archive for reading. Raises ImageError when it cannot be read or is not an OCI archive."""
    # imported here, as writing archives does not need it
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
        # the archive may be compressed, as skopeo accepts that too
        raise ImageError(f"{path}: not an OCI archive: {error}") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from error


def read_archived_manifest(path: str, tag: str | None) -> bytes:
    """The manifest of an image in an archive. Raises ImageError when the image does not exist or is damaged."""
    with open_archive(path) as archive:
        return archive.manifest(tag)
