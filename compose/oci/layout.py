"""OCI image layouts on disk (image-spec, image-layout.md).

    oci-layout              {"imageLayoutVersion":"1.0.0"}
    index.json              the manifests, each with its tag
    blobs/sha256/HEX        manifests, configurations, layers

A blob has its name when it is whole, and index.json is replaced when all blobs are there. A directory that is new gets its
name at the end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Self

from compose import fs
from compose.errors import ImageError, UsageError
from compose.events import Reporter
from compose.oci.documents import canonical, parse
from compose.oci.image import INDEX_TYPE, MANIFEST_TYPE, descriptor, digest_of, platform_of

LAYOUT, INDEX, BLOBS = "oci-layout", "index.json", "blobs/sha256"
VERSION = b'{"imageLayoutVersion":"1.0.0"}'
TAG = "org.opencontainers.image.ref.name"
_MOST_JSON = 16 << 20
"""Bytes of an index or a manifest."""
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})


class Blob:
    """A blob that is being written: fd is open for it, and it has no name yet."""

    def __init__(self, layout: Layout, fd: int, temporary: str | None) -> None:
        self.fd = fd
        self._layout = layout
        self._temporary = temporary

    def write(self, data: bytes) -> None:
        with fs.storage_errors(self._layout.path):
            fs.write_all(self.fd, data)

    def name(self, digest: str, size: int) -> None:
        """It is whole. Raises StorageError."""
        self._layout.put(self, digest, size)

    def link(self, directory: int, name: str) -> None:
        """Give it a name in a directory."""
        if self._temporary is not None:
            os.rename(self._temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            self._temporary = None
            return
        os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=directory, follow_symlinks=True)

    def discard(self, directory: int) -> None:
        if self._temporary is not None:
            os.unlink(self._temporary, dir_fd=directory)


class Layout:
    """An open layout; a context manager, for it holds descriptors. path: for messages."""

    def __init__(self, path: str, fd: int, blobs: int, reporter: Reporter) -> None:
        self.path = path
        self._fd = fd
        self._blobs = blobs
        self._reporter = reporter

    @classmethod
    def open(cls, path: str, reporter: Reporter) -> Self:
        """Raises ImageError for what is no layout, or a damaged one."""
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
        """In a directory that is empty. Raises StorageError."""
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
        """A new blob, gone at the end unless it got its name. Raises StorageError."""
        temporary = None
        with fs.storage_errors(self.path):
            try:
                fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=self._blobs)
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
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
        """See Blob.name(). A blob that is there already stays, one that is damaged is replaced."""
        if self._is_there(digest, size):
            return
        with fs.storage_errors(f"{self.path}/{BLOBS}/{digest}"):
            os.fchmod(blob.fd, 0o644)
            os.fsync(blob.fd)
            with contextlib.suppress(FileExistsError):
                blob.link(self._blobs, digest)

    def write(self, data: bytes) -> str:
        """A whole blob; returns its digest. Raises StorageError."""
        digest = digest_of(data)
        with self.blob() as blob:
            blob.write(data)
            blob.name(digest, len(data))
        return digest

    def read(self, digest: str, size: int | None = None) -> bytes:
        """A blob of JSON. Raises ImageError when it is missing or damaged."""
        data = _read(self._fd, f"{BLOBS}/{digest}", self.path)
        if digest_of(data) != digest or size not in (None, len(data)):
            raise ImageError(f"{self.path}: the blob sha256:{digest} is damaged")
        return data

    @contextmanager
    def open_blob(self, digest: str) -> Iterator[IO[bytes]]:
        """A blob of any size, not looked at. Raises ImageError when it is missing."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(digest, flags, dir_fd=self._blobs)
        except OSError as error:
            raise ImageError(f"{self.path}: cannot read the blob sha256:{digest}: {error.strerror}") from error
        with os.fdopen(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ImageError(f"{self.path}: the blob sha256:{digest} is no file")
            yield file

    def index(self) -> dict[str, Any]:
        """What index.json says; an empty one where there is none. Raises ImageError."""
        try:
            data = _read(self._fd, INDEX, self.path)
        except ImageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
            raise
        return parse_index(data, self.path)

    def insert(self, manifest: bytes, tag: str | None, architecture: str) -> str:
        """Write a manifest, whose blobs are there, and have the index name it: in place of the one with the same tag, or of
        the one without any. Returns its digest. Raises ImageError, StorageError."""
        digest = self.write(manifest)
        row = {**descriptor(MANIFEST_TYPE, digest, len(manifest)), "platform": platform_of(architecture)}
        if tag is not None:
            row["annotations"] = {TAG: tag}
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            index = self.index()
            others = [each for each in index["manifests"] if tag_of(each) != tag]
            if tag is None and others:
                self._reporter.warn(
                    f"oci:{self.path} has other images, and an image without a tag among them is found by its digest alone: "
                    f"give a tag, oci:{self.path}:TAG"
                )
            os.fsync(self._blobs)
            fs.atomic_write(INDEX, canonical({**index, "manifests": [*others, row]}), dir_fd=self._fd)
            os.fsync(self._fd)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        return digest

    def manifest(self, tag: str | None) -> bytes:
        """The manifest of an image. Raises ImageError when there is none such, or more than one that could be meant."""
        row = choose(self.index(), tag, self.path)
        return self.read(digest_in(row, self.path), row.get("size"))

    def find_manifest(self, tag: str | None) -> bytes | None:
        """The same, None when there is none such."""
        row = find(self.index(), tag, self.path)
        return self.read(digest_in(row, self.path), row.get("size")) if row is not None else None

    def _is_there(self, digest: str, size: int) -> bool:
        try:
            fd = os.open(digest, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._blobs)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ImageError(f"{self.path}: cannot read the blob sha256:{digest}: {error.strerror}") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{self.path}: the blob sha256:{digest} is no regular file", hint="remove it")
            if status.st_size == size:
                found = hashlib.sha256()
                for piece in fs.chunks(fd):
                    found.update(piece)
                if found.hexdigest() == digest:
                    return True
        finally:
            os.close(fd)
        self._reporter.warn(f"{self.path}: the blob sha256:{digest} was damaged, and is written anew")
        os.unlink(digest, dir_fd=self._blobs)
        return False


@contextmanager
def layout_for(path: str, reporter: Reporter) -> Iterator[Layout]:
    """The layout at a path to add an image to. One that is new is there when the context is left without an error.

    Raises UsageError for a directory that has something else, ImageError for a damaged layout, StorageError.
    """
    with fs.storage_errors(path):
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            names = []
        except NotADirectoryError:
            raise UsageError(f"oci:{path}: is no directory", hint="oci-archive:FILE writes a file") from None
    if names:
        if LAYOUT not in names:
            raise UsageError(
                f"oci:{path}: is a directory that has something else than an OCI layout",
                hint="give an OCI layout, an empty directory, or a name that is not taken",
            )
        with Layout.open(path, reporter) as layout:
            # before hours are spent on an image that could not be added
            layout.index()
            yield layout
        return
    place = os.path.realpath(path)
    if os.path.isdir(place):
        # it may be where something is mounted, and nothing can take its place
        try:
            with Layout.create(place, reporter) as layout:
                yield layout
        except BaseException:
            for name in (LAYOUT, BLOBS.partition("/")[0]):
                fs.remove_tree(f"{place}/{name}")
            raise
        return
    # beside it, so that it can be renamed
    temporary = f"{place}.{os.urandom(6).hex()}.tmp"
    with fs.storage_errors(path):
        try:
            os.mkdir(temporary, 0o755)
        except FileNotFoundError as error:
            raise UsageError(f"oci:{path}: there is no directory {os.path.dirname(place)}") from error
    try:
        with Layout.create(temporary, reporter) as layout:
            layout.path = path
            yield layout
        with fs.storage_errors(path):
            try:
                os.rename(temporary, place)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                raise ImageError(
                    f"oci:{path}: somebody else made it meanwhile",
                    hint="do it again: the image is added to what is there",
                ) from error
    except BaseException:
        fs.remove_tree(temporary)
        raise


class _Tried(Exception):
    """All went well, and nothing of it is to stay."""


def try_layout(path: str, reporter: Reporter) -> None:
    """Raise now what layout_for() would raise when there is an image to add, as far as can be told."""
    with contextlib.suppress(_Tried), layout_for(path, reporter):
        raise _Tried


def check_version(path: str, data: bytes) -> None:
    """data: of oci-layout. Raises ImageError."""
    document = _object(data, f"{path}: {LAYOUT}")
    if document.get("imageLayoutVersion") != "1.0.0":
        raise ImageError(
            f"{path}: is an OCI layout of version {document.get('imageLayoutVersion')}, which is not known"
        )


def parse_index(data: bytes, path: str) -> dict[str, Any]:
    """Raises ImageError."""
    found = _object(data, f"{path}: {INDEX}")
    rows = found.setdefault("manifests", [])
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        raise ImageError(f"{path}: {INDEX} is damaged: manifests must be a list of objects")
    if not all(isinstance(tag_of(each), str | None) for each in rows):
        raise ImageError(f"{path}: {INDEX} is damaged: {TAG} must be text")
    return found


def tag_of(row: Mapping[str, Any]) -> str | None:
    """Of a manifest in an index."""
    annotations = row.get("annotations")
    return annotations.get(TAG) if isinstance(annotations, dict) else None


def find(index: Mapping[str, Any], tag: str | None, path: str) -> dict[str, Any] | None:
    """None when there is none such. Raises ImageError when more than one could be meant."""
    rows: list[dict[str, Any]] = index["manifests"]
    found = [each for each in rows if tag_of(each) == tag]
    if tag is None and len(rows) == 1:
        # the one that there is, whatever it is called
        found = rows
    if len(found) > 1 or (tag is None and rows and not found):
        raise ImageError(
            f"{path}: has {len(rows)} images, and none is named", hint=f"tags that are there: {_tags(rows)}"
        )
    return found[0] if found else None


def choose(index: Mapping[str, Any], tag: str | None, path: str) -> dict[str, Any]:
    """Raises ImageError when there is none such too."""
    row = find(index, tag, path)
    if row is None:
        what = f"no image {tag}" if tag is not None else "no image"
        raise ImageError(f"{path}: has {what}", hint=f"tags that are there: {_tags(index['manifests'])}")
    return row


def _tags(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted(filter(None, map(tag_of, rows)))) or "none"


def digest_in(row: Mapping[str, Any], path: str) -> str:
    """64 hex digits of a descriptor. Raises ImageError."""
    algorithm, _, digest = str(row.get("digest")).partition(":")
    if algorithm != "sha256" or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ImageError(f"{path}: refers to {row.get('digest')}, which is no sha256 digest")
    return digest


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = parse(data)
    except ValueError as error:
        raise ImageError(f"{what} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise ImageError(f"{what} is damaged: it is no object")
    return found


def _read(directory: int, name: str, path: str) -> bytes:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            data = b"".join(fs.chunks(fd, 0, _MOST_JSON)) if os.fstat(fd).st_size <= _MOST_JSON else None
        finally:
            os.close(fd)
    except OSError as error:
        raise ImageError(f"{path}: cannot read {name}: {error.strerror}") from error
    if data is None:
        raise ImageError(f"{path}: {name} has more than {_MOST_JSON} bytes, and is no JSON of an image")
    return data
