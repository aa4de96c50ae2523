"""What worker processes run to copy content objects from another repository: read, verify and write them into staging.

They are started and fed like those of compose.ostree.worker. Messages are marshalled:

    parent -> copier    Setup, then any number of batches: lists of checksums, 64 hex digits
    copier -> parent    per batch: None, or a failure: (kind, checksum, errno, text)

Between repositories of the same mode an object's file is copied as it is, and the copy is verified, because the original may
change meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from compose import fs
from compose.ostree.config import Mode
from compose.ostree.deflate import WHOLE_MAX, Deflater
from compose.ostree.objects import (
    OSTREEMETA,
    FileInfo,
    bare_user_mode,
    encode_dirmeta,
    encode_xattrs,
    filez_header,
    object_name,
)
from compose.ostree.reading import OpenContent, open_object, verified
from compose.ostree.worker import DAMAGED, READ, WRITE, Failure, serve, setup

Setup = tuple[str, str, str, str, int | None]
"""Objects directory and mode of the source; staging directory and mode of the target; deflate level."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class _WriteError(Exception):
    """Carries the OSError of a failed write."""


def serve_copier() -> None:
    """Copy objects until standard input ends."""
    serve(lambda: Copier(*setup()).copy_batch)


class Copier:
    """Copies content objects of a repository into the staging directory of another, which is an archive or bare-user one."""

    def __init__(self, objects: str, mode: str, staging: str, target: str, level: int | None) -> None:
        self._objects = objects
        self._mode = Mode(mode)
        self._staging = staging
        self._target = Mode(target)
        self._deflater = Deflater(level)

    def copy_batch(self, batch: list[str]) -> Failure | None:
        """Copy objects. batch: checksums, 64 hex digits. Returns the first failure, None if there is none."""
        for checksum in batch:
            try:
                self._copy(checksum)
            except ValueError as error:
                return DAMAGED, checksum, 0, str(error)
            except _WriteError as failed:
                cause: OSError = failed.args[0]
                return WRITE, checksum, cause.errno or 0, cause.strerror or str(cause)
            except OSError as error:
                return READ, checksum, error.errno or 0, error.strerror or str(error)
        return None

    def _copy(self, checksum: str) -> None:
        source = f"{self._objects}/{object_name(checksum, self._mode.content_extension)}"
        staged = f"{self._staging}/{object_name(checksum, self._target.content_extension)}"
        with _write_errors():
            fd = _create(staged)
        try:
            if self._mode is self._target:
                self._copy_file(source, fd)
                with open_object(staged, self._target) as content:
                    info = content.info
                    for _ in verified(content, checksum):
                        pass
            else:
                with open_object(source, self._mode) as content:
                    info = content.info
                    self._convert(content, checksum, fd)
            with _write_errors():
                os.fchmod(fd, self._permissions(info))
                if self._target is Mode.BARE_USER:
                    os.utime(fd, ns=(0, 0))
        finally:
            os.close(fd)

    def _copy_file(self, source: str, fd: int) -> None:
        with fs.open_regular(source, follow_symlinks=False) as file:
            origin = file.fileno()
            try:
                fs.clone_or_copy(origin, fd)
            except OSError as error:
                # both files are involved, but only a failed write has these errors
                if error.errno in fs.DISK_ERRORS:
                    raise _WriteError(error) from error
                raise
            if self._target is Mode.BARE_USER:
                meta = os.getxattr(origin, OSTREEMETA)
                with _write_errors():
                    os.setxattr(fd, OSTREEMETA, meta)

    def _convert(self, content: OpenContent, checksum: str, fd: int) -> None:
        info, pieces = content.info, verified(content, checksum)
        target = b"" if info.target is None else info.target.encode()
        xattrs = encode_xattrs(info.xattrs)
        if self._target is Mode.ARCHIVE:
            _write(fd, filez_header(content.size, info.uid, info.gid, info.mode, target, xattrs))
            for packed in self._deflated(content.size, pieces):
                # the object of a symlink is only its header
                if info.target is None:
                    _write(fd, packed)
            return
        for piece in pieces:
            _write(fd, piece)
        if info.target is not None:
            # a symlink is a file that contains its target, NUL-terminated
            _write(fd, target + b"\0")
        with _write_errors():
            os.setxattr(fd, OSTREEMETA, encode_dirmeta(info.uid, info.gid, info.mode, xattrs))

    def _deflated(self, size: int, pieces: Iterator[bytes]) -> Iterator[bytes | memoryview]:
        if size <= WHOLE_MAX:
            yield self._deflater.compress(b"".join(pieces))
            return
        packer = self._deflater.stream()
        for piece in pieces:
            yield packer.compress(piece)
        yield packer.flush()

    def _permissions(self, info: FileInfo) -> int:
        if self._target is Mode.ARCHIVE or info.target is not None:
            return 0o644
        return bare_user_mode(info.mode)


def _create(path: str) -> int:
    # gets its final permissions when it is complete, whatever the umask
    try:
        return os.open(path, _CREATE, 0o600)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o777)
        return os.open(path, _CREATE, 0o600)


def _write(fd: int, data: bytes | memoryview) -> None:
    with _write_errors():
        fs.write_all(fd, data)


@contextmanager
def _write_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _WriteError(error) from error
