"""OCI archives: a layout in a single tar file, as written and read by skopeo and podman."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from typing import IO, Any, cast

from compose import fs
from compose.errors import ImageError
from compose.oci import tar
from compose.oci.image import digest_of
from compose.oci.index import parse_index
from compose.oci.layout import BLOBS, INDEX, LAYOUT, MAX_JSON, TEMPORARY, check_version
from compose.oci.untar import Kind, TarReader
from compose.scratch import directory_beside

_FAULT = "not an OCI archive"
_BLOB = re.compile(rf"{BLOBS}/[0-9a-f]{{64}}")
_MOST = 1 << 16
"""Files of an image; one has a few hundred."""


def write_archive(layout: str, path: str) -> None:
    """Write a layout as an archive, its files in order of their names. An existing file is replaced when the archive is
    complete. Raises StorageError."""
    with directory_beside(path, TEMPORARY) as directory, fs.storage_errors(path):
        temporary = f"{directory}/archive"
        out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            for name in (*(f"{BLOBS}/{each}" for each in sorted(os.listdir(f"{layout}/{BLOBS}"))), INDEX, LAYOUT):
                _append(out, f"{layout}/{name}", name)
            fs.write_all(out, tar.END)
            os.fsync(out)
        finally:
            os.close(out)
        os.rename(temporary, path)


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
    """An archive that is open for reading. path: for messages. places: offset and size of each of its files."""

    def __init__(self, path: str, file: IO[bytes], places: Mapping[str, tuple[int, int]]) -> None:
        self.path = path
        self._file = file
        self._places = places

    def index(self) -> dict[str, Any]:
        """The parsed index.json. Raises ImageError."""
        return parse_index(self._member(INDEX), f"{self.path}: {INDEX}")

    def read(self, digest: str) -> bytes:
        """Read a JSON blob. Raises ImageError when it is missing or damaged."""
        data = self._member(f"{BLOBS}/{digest}")
        if digest_of(data) != digest:
            raise ImageError(f"{self.path}: the blob sha256:{digest} is damaged")
        return data

    @contextmanager
    def open_blob(self, digest: str) -> Iterator[IO[bytes]]:
        """Open a blob of any size without verifying it. Raises ImageError when it is missing."""
        if (place := self._places.get(f"{BLOBS}/{digest}")) is None:
            raise ImageError(f"{self.path}: has no blob sha256:{digest}")
        yield cast(IO[bytes], _Section(self.path, self._file, *place))

    def check(self) -> None:
        """Raises ImageError when this is not an OCI archive."""
        check_version(self.path, self._member(LAYOUT))

    def _member(self, name: str) -> bytes:
        place = self._places.get(name)
        if place is None or place[1] > MAX_JSON:
            reason = f"it has no {name}" if place is None else f"{name} has more than {MAX_JSON} bytes"
            raise ImageError(f"{self.path}: {_FAULT}: {reason}")
        return _Section(self.path, self._file, *place).readall()


class _Section(io.RawIOBase):
    """A range of a file; only one is read at a time. Raises ImageError."""

    def __init__(self, path: str, file: IO[bytes], begin: int, size: int) -> None:
        self._path = path
        self._file = file
        self._left = size
        with _damage(path):
            file.seek(begin)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _damage(self._path):
            data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


@contextmanager
def open_archive(path: str) -> Iterator[Archive]:
    """Open an archive for reading. Raises ImageError when it cannot be read or is not an OCI archive."""
    with ExitStack() as stack:
        with _damage(path):
            file = stack.enter_context(_unpacked(stack.enter_context(fs.open_regular(path))))
            archive = Archive(path, file, _index(path, file))
        archive.check()
        yield archive


def _unpacked(file: BufferedReader) -> IO[bytes]:
    """The tar stream in a file, which may be compressed, as skopeo accepts that too."""
    head = file.peek(6)
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(file)
    if head.startswith(b"\xfd7zXZ\0"):
        import lzma

        return lzma.LZMAFile(file)
    return file


def _index(path: str, file: IO[bytes]) -> dict[str, tuple[int, int]]:
    """Offset and size of each file of the image. Other files are passed over; of several with one name the last counts, as for
    who unpacks the archive."""
    reader = TarReader(file, path, _FAULT)
    found: dict[str, tuple[int, int]] = {}
    for entry in reader:
        name = entry.name.removeprefix("./")
        if entry.kind is not Kind.FILE:
            # links are not followed: they might form a loop
            found.pop(name, None)
        elif name in (INDEX, LAYOUT) or _BLOB.fullmatch(name):
            found[name] = file.tell(), entry.size
            if len(found) > _MOST:
                raise ImageError(f"{path}: {_FAULT}: it has more than {_MOST} files")
        reader.skip(file.seek)
    return found


@contextmanager
def _damage(path: str) -> Iterator[None]:
    import lzma
    import zlib

    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError) as error:
        raise ImageError(f"{path}: {_FAULT}: {error}") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from error
