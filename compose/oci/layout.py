"""OCI image layouts on disk (image-spec, image-layout.md).

    oci-layout              {"imageLayoutVersion":"1.0.0"}
    index.json              the manifests, each with its tag
    blobs/sha256/HEX        manifests, configurations, layers

A blob gets its name when it is complete, index.json is replaced when all blobs exist, and a new layout is renamed into place
at the end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Self

from compose import fs
from compose.errors import ImageError, UsageError
from compose.events import Reporter
from compose.oci.documents import canonical
from compose.oci.image import INDEX_TYPE, MANIFEST_TYPE, descriptor, digest_of, platform_of
from compose.oci.index import TAG, parse_index, parse_object, tag_of
from compose.scratch import directory_beside

LAYOUT, INDEX, BLOBS = "oci-layout", "index.json", "blobs/sha256"
VERSION = b'{"imageLayoutVersion":"1.0.0"}'
MAX_JSON = 16 << 20
"""Bytes that an index, a manifest or a configuration may have."""
TEMPORARY = ".compose-oci-"
"""Begins the names of directories beside a target in which images are made, and of nothing else."""


class Blob:
    """A blob that is being written to `fd` and has no name yet."""

    def __init__(self, layout: Layout, fd: int, temporary: str | None) -> None:
        self.fd = fd
        self._layout = layout
        self._temporary = temporary

    def write(self, data: bytes) -> None:
        with fs.storage_errors(self._layout.path):
            fs.write_all(self.fd, data)

    def name(self, digest: str, size: int) -> None:
        """Give the complete blob its name. Raises StorageError."""
        self._layout.put(self, digest, size)

    def link(self, directory: int, name: str) -> None:
        """Link it into a directory."""
        if self._temporary is not None:
            os.rename(self._temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            self._temporary = None
            return
        os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=directory, follow_symlinks=True)

    def discard(self, directory: int) -> None:
        if self._temporary is not None:
            os.unlink(self._temporary, dir_fd=directory)


class Layout:
    """An open layout; a context manager, as it holds file descriptors. path: for messages."""

    def __init__(self, path: str, fd: int, blobs: int, reporter: Reporter) -> None:
        self.path = path
        self._fd = fd
        self._blobs = blobs
        self._reporter = reporter

    @classmethod
    def open(cls, path: str, reporter: Reporter) -> Self:
        """Open a layout. Raises ImageError when there is none, or it is damaged."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ImageError(f"cannot open the OCI layout {path}: {error.strerror}") from error
        try:
            check_version(path, _read(fd, LAYOUT, path))
            blobs = os.open(BLOBS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError):
                raise ImageError(f"{path}: the OCI layout has no {BLOBS}: {error.strerror}") from error
            raise
        return cls(path, fd, blobs, reporter)

    @classmethod
    def create(cls, path: str, reporter: Reporter) -> Self:
        """Create a layout in an empty or new directory. Raises StorageError."""
        with fs.storage_errors(path):
            os.makedirs(f"{path}/{BLOBS}", mode=0o755)
            fs.atomic_write(f"{path}/{LAYOUT}", VERSION)
        return cls.open(path, reporter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._blobs)
        os.close(self._fd)

    @contextmanager
    def blob(self) -> Iterator[Blob]:
        """A new blob, discarded at the end unless it got a name. Raises StorageError."""
        temporary = None
        with fs.storage_errors(self.path):
            try:
                fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=self._blobs)
            except OSError as error:
                if error.errno not in fs.NO_TMPFILE:
                    raise
                temporary = f".{os.urandom(6).hex()}.tmp"
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                fd = os.open(temporary, flags, 0o644, dir_fd=self._blobs)
        blob = Blob(self, fd, temporary)
        try:
            yield blob
        finally:
            blob.discard(self._blobs)
            os.close(fd)

    def put(self, blob: Blob, digest: str, size: int) -> None:
        """Give a complete blob its name. An existing blob is kept if intact, else replaced. Raises ImageError, StorageError."""
        if self._exists(digest, size):
            return
        with fs.storage_errors(f"{self.path}/{BLOBS}/{digest}"):
            os.fchmod(blob.fd, 0o644)
            os.fsync(blob.fd)
            with contextlib.suppress(FileExistsError):
                blob.link(self._blobs, digest)

    def write(self, data: bytes) -> str:
        """Write a blob and return its digest. Raises ImageError, StorageError."""
        digest = digest_of(data)
        with self.blob() as blob:
            blob.write(data)
            blob.name(digest, len(data))
        return digest

    def take(self, source: IO[bytes], digest: str, size: int, where: str) -> None:
        """Copy a blob from elsewhere, unless it exists here. where: for messages. Raises ImageError when it is damaged,
        StorageError."""
        if self._exists(digest, size):
            return
        total = hashlib.sha256()
        with self.blob() as blob:
            while piece := source.read(fs.CHUNK):
                total.update(piece)
                blob.write(piece)
            if total.hexdigest() != digest:
                raise ImageError(f"{where}: the blob sha256:{digest} is damaged")
            blob.name(digest, size)

    def read(self, digest: str) -> bytes:
        """Read a JSON blob. Raises ImageError when it is missing or damaged."""
        data = _read(self._fd, f"{BLOBS}/{digest}", self.path)
        if digest_of(data) != digest:
            raise ImageError(f"{self.path}: the blob sha256:{digest} is damaged")
        return data

    @contextmanager
    def open_blob(self, digest: str) -> Iterator[IO[bytes]]:
        """Open a blob of any size without verifying it. Raises ImageError when it is missing."""
        try:
            file = fs.open_regular(digest, dir_fd=self._blobs, follow_symlinks=False)
        except OSError as error:
            raise ImageError(f"{self.path}: cannot read the blob sha256:{digest}: {error.strerror}") from error
        with file:
            yield file

    def index(self) -> dict[str, Any]:
        """The parsed index.json; an empty index if the file is missing. Raises ImageError."""
        try:
            data = _read(self._fd, INDEX, self.path)
        except ImageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
            raise
        return parse_index(data, f"{self.path}: {INDEX}")

    def insert(self, manifest: bytes, tag: str | None, architecture: str | None) -> str:
        """Write a manifest, whose blobs exist already, and add it to the index, replacing the entry with the same tag, or the
        one without a tag. architecture: None when the manifest is itself an index, of images for several. Returns its digest.
        Raises ImageError, StorageError."""
        digest = self.write(manifest)
        row = descriptor(INDEX_TYPE if architecture is None else MANIFEST_TYPE, digest, len(manifest))
        if architecture is not None:
            row["platform"] = platform_of(architecture)
        if tag is not None:
            row["annotations"] = {TAG: tag}
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            index = self.index()
            others = [other for other in index["manifests"] if tag_of(other) != tag]
            if tag is None and others:
                self._reporter.warn(
                    f"oci:{self.path} has other images, so that this one without a tag can only be found by its digest: "
                    f"give a tag, oci:{self.path}:TAG"
                )
            os.fsync(self._blobs)
            fs.atomic_write(INDEX, canonical({**index, "manifests": [*others, row]}), dir_fd=self._fd)
            os.fsync(self._fd)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        return digest

    def _exists(self, digest: str, size: int) -> bool:
        """Does an intact blob exist? A damaged one is removed."""
        try:
            file = fs.open_regular(digest, dir_fd=self._blobs, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ImageError(f"{self.path}: cannot read the blob sha256:{digest}: {error.strerror}") from error
        with file:
            if os.fstat(file.fileno()).st_size == size and hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return True
        self._reporter.warn(f"{self.path}: the blob sha256:{digest} is damaged and is replaced")
        os.unlink(digest, dir_fd=self._blobs)
        return False


@contextmanager
def layout_for(path: str, reporter: Reporter) -> Iterator[Layout]:
    """The layout at a path, to add an image to. A new one appears when the context is left without an error.

    Raises UsageError when there is something else at the path, ImageError for a damaged layout, StorageError.
    """
    with fs.storage_errors(path):
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            names = []
        except NotADirectoryError:
            raise UsageError(f"oci:{path}: not a directory", hint="use oci-archive:FILE to write a file") from None
    if names:
        if LAYOUT not in names:
            raise UsageError(
                f"oci:{path}: a directory that is neither empty nor an OCI layout",
                hint="give an OCI layout, an empty directory, or a path that does not exist",
            )
        with Layout.open(path, reporter) as layout:
            # fail on a damaged index now, not after hours of writing layers
            layout.index()
            for directory in (path, f"{path}/{BLOBS}"):
                fs.check_directory(directory)
                fs.remove_unfinished(directory)
            yield layout
        return
    destination = os.path.realpath(path)
    if os.path.isdir(destination):
        # an existing directory may be a mount point, which cannot be replaced
        try:
            with Layout.create(destination, reporter) as layout:
                yield layout
        except BaseException:
            for name in (LAYOUT, BLOBS.partition("/")[0]):
                # the error that led here says more than one of cleaning up
                with contextlib.suppress(OSError):
                    fs.remove_tree(f"{destination}/{name}")
            raise
        return
    parent = os.path.dirname(destination)
    if not os.path.isdir(parent):
        raise UsageError(f"oci:{path}: there is no directory {parent}")
    with directory_beside(destination, TEMPORARY) as directory:
        with Layout.create(f"{directory}/layout", reporter) as layout:
            layout.path = path
            yield layout
        with fs.storage_errors(path):
            try:
                os.rename(f"{directory}/layout", destination)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                raise ImageError(
                    f"oci:{path}: was created by another process in the meantime",
                    hint="run the command again to add the image to it",
                ) from error


class _Rollback(Exception):
    """Raised within layout_for() so that it undoes everything."""


def try_layout(path: str, reporter: Reporter) -> None:
    """Check whether layout_for() would succeed, as far as that is known beforehand; raises what it would raise."""
    with contextlib.suppress(_Rollback), layout_for(path, reporter):
        raise _Rollback


def check_version(path: str, data: bytes) -> None:
    """Check the version in an oci-layout file. data: its content. Raises ImageError."""
    document = parse_object(data, f"{path}: {LAYOUT}")
    if document.get("imageLayoutVersion") != "1.0.0":
        raise ImageError(f"{path}: is an OCI layout of the unknown version {document.get('imageLayoutVersion')}")


def _read(directory: int, name: str, path: str) -> bytes:
    try:
        with fs.open_regular(name, dir_fd=directory, follow_symlinks=False) as file:
            data = file.read() if os.fstat(file.fileno()).st_size <= MAX_JSON else None
    except OSError as error:
        raise ImageError(f"{path}: cannot read {name}: {error.strerror}") from error
    if data is None:
        raise ImageError(f"{path}: {name} has more than {MAX_JSON} bytes, too many for the JSON of an image")
    return data
