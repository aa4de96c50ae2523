"""Reader of RPM payloads: decompresses the stream after the header piece by piece, and checks its digest."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Callable
from typing import IO, Protocol, cast

import zstandard

from compose.errors import PackageError, StorageError
from compose.rpm.header import PackageHeader

_CHUNK = 1 << 18
# Largest window that a stream may ask for: xz -9 needs 65 MiB, zstd --ultra -22 128 MiB; rpm itself allows xz 100 MiB.
_MAX_WINDOW = 128 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_ERRORS = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError)


class _Readable(Protocol):
    def read1(self, limit: int, /) -> bytes:
        """Return between 1 and limit bytes, none at the end."""


class PayloadReader:
    """The decompressed payload of the RPM file open at fd.

    package: what messages call the RPM. hashed: finish() compares the payload's digest with the header's. Takes a few
    MiB of memory, and the compressor's window. Raises PackageError if the compressor is not supported.
    """

    def __init__(self, fd: int, header: PackageHeader, package: str, *, hashed: bool = True) -> None:
        self._package = package
        self._source = _Source(fd, header.payload_offset, header.payload_digest if hashed else None, package)
        compressor = header.compressor or ("gzip" if self._source.begins_with(_GZIP_MAGIC) else "none")
        if compressor not in _OPENERS:
            raise PackageError(f"{package}: its payload is compressed with {compressor!r}, which is not supported")
        self._stream = _OPENERS[compressor](self._source)

    def read(self, limit: int) -> bytes:
        """Return between 1 and limit bytes, none at the end. Raises PackageError if the stream is damaged."""
        try:
            return self._stream.read1(limit)
        except _ERRORS as error:
            raise PackageError(f"{self._package}: its payload cannot be decompressed: {error}") from error

    def finish(self) -> None:
        """Raise PackageError unless the payload has the digest that the header records."""
        self._source.check()


class _Source(io.RawIOBase):
    """The bytes of a file from an offset on, hashed while they are read if a digest is expected."""

    def __init__(self, fd: int, offset: int, expected: tuple[str, str] | None, package: str) -> None:
        self._fd = fd
        self._offset = offset
        self._package = package
        name, self._expected = expected or ("", "")
        self._hash = hashlib.new(name, usedforsecurity=False) if name else None

    def readable(self) -> bool:
        return True

    def begins_with(self, magic: bytes) -> bool:
        return self._pread(len(magic)) == magic

    def read(self, size: int = -1, /) -> bytes:
        data = self._pread(size if size >= 0 else _CHUNK)
        self._offset += len(data)
        if self._hash is not None:
            self._hash.update(data)
        return data

    def check(self) -> None:
        if self._hash is None:
            return
        while self.read(_CHUNK):
            pass
        if self._hash.hexdigest() != self._expected:
            raise PackageError(f"{self._package}: its payload does not have the digest that its header records")

    def _pread(self, size: int) -> bytes:
        try:
            return os.pread(self._fd, size, self._offset)
        except OSError as error:
            # not an OSError, which read() would take for a damaged stream
            raise StorageError(f"{self._package} cannot be read: {error.strerror}") from error


class _Plain:
    def __init__(self, source: _Source) -> None:
        self._source = source

    def read1(self, limit: int, /) -> bytes:
        return self._source.read(limit)


class _Members:
    """Concatenated compressed streams, read by the decompressors of lzma and bz2.

    LZMAFile and BZ2File do the same, but have no memory limit and take garbage after a stream for the end of the file.
    """

    def __init__(self, source: _Source, start: Callable[[], lzma.LZMADecompressor | bz2.BZ2Decompressor]) -> None:
        self._source = source
        self._start = start
        self._member = start()

    def read1(self, limit: int, /) -> bytes:
        while True:
            if self._member.eof:
                data = self._member.unused_data or self._source.read(_CHUNK)
                if not data:
                    return b""
                self._member = self._start()
            elif self._member.needs_input:
                data = self._source.read(_CHUNK)
                if not data:
                    raise EOFError("it is truncated")
            else:
                data = b""
            if piece := self._member.decompress(data, limit):
                return piece


def _open_gzip(source: _Source) -> _Readable:
    return gzip.GzipFile(fileobj=source, mode="rb")


def _open_bzip2(source: _Source) -> _Readable:
    return _Members(source, bz2.BZ2Decompressor)


def _open_lzma(source: _Source) -> _Readable:
    return _Members(source, lambda: lzma.LZMADecompressor(memlimit=_MAX_WINDOW))


def _open_zstd(source: _Source) -> _Readable:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    stream: _Readable = decompressor.stream_reader(cast(IO[bytes], source), read_size=_CHUNK, read_across_frames=True)
    return stream


# By RPMTAG_PAYLOADCOMPRESSOR.
_OPENERS: dict[str, Callable[[_Source], _Readable]] = {
    "gzip": _open_gzip,
    "bzip2": _open_bzip2,
    "lzma": _open_lzma,
    "xz": _open_lzma,
    "zstd": _open_zstd,
    "none": _Plain,
}
