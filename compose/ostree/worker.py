"""What worker processes run. Writers read, hash and deflate regular files and write them into staging; packers deflate ahead.

They start in 20 ms because they import next to nothing: the parent builds the headers (`compose.ostree.content`), once for all
files with the same owner, mode and xattrs. Messages are marshalled:

    parent -> writer    Setup, then any number of batches: lists of Job
    writer -> parent    per batch: list of (checksum, payload size, bytes written; -1 if the object was there already), or
                        a failure: (kind, path, errno, text); LIMITED of any process that ends because of one

    parent -> packer    path of an empty file, deflate level; then any number of batches: lists of paths
    packer -> parent    per batch: list of (place in that file, bytes, inode that was deflated) of each stream; no bytes
                        where there is none

Two other modules have processes of the same kind, that only read: compose.ostree.verity and compose.ostree.hasher.
"""

from __future__ import annotations

import errno
import hashlib
import marshal
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from compose.ostree import direct
from compose.ostree.deflate import PIECE, WHOLE_MAX, Deflater

READ, WRITE, CHANGED, DAMAGED, NOT_REGULAR = "read", "write", "changed", "damaged", "not regular"
"""Kinds of failure: the source cannot be read; the repository cannot be written; the source changed meanwhile; it does not have
the digest it should; it is not a regular file."""
LIMITED = "limited"
"""The machine gives no more memory, threads or open files."""
_LIMITS = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

Inode = tuple[int, int, int, list[tuple[bytes, bytes]]]
"""Owner and group, -1 to leave them; mode; xattrs."""
Attributes = tuple[bytes, bytes, bytes, Inode]
"""What all files with one owner, mode and xattrs share: the header that is hashed; what comes before and after the size in a
.filez header; how the object's inode looks in the other kinds of repository."""
Setup = tuple[bool, bool, str, str, int | None, list[Attributes], list[str]]
"""Is it an archive repository? In another: do large files bypass the page cache? Objects directory; staging directory; deflate
level; attributes; files with streams deflated ahead."""
Stream = tuple[int, int, int, int]
"""A stream deflated ahead: index of the file it is in, offset, size; the inode number of its source."""
Job = tuple[str, int, str, Stream | None]
"""Path of a file; index into attributes; the sha256 its contents must have, "" for any; its stream, if there is one."""
Written = tuple[bytes, int, int]
Failure = tuple[str, str, int, str]

_NICE = 19
_NO_STREAM = (0, 0, 0)
# O_NONBLOCK: do not block on a fifo
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a file is opened that should be a regular one."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class _Failed(Exception):
    """Carries a Failure."""


def serve_writer() -> None:
    """Write objects until standard input ends."""
    serve(lambda: Writer(*setup()).write_batch)


def serve_packer() -> None:
    """Deflate until standard input ends, when nobody else wants the core."""
    os.nice(_NICE)
    serve(lambda: Packer(*setup()).pack_batch)


def setup() -> Any:
    """The first message from the parent."""
    return marshal.load(sys.stdin.buffer)


def serve(begin: Callable[[], Callable[[Any], Any]]) -> None:
    """Answer messages until standard input ends. begin: returns what answers one.

    A thread reads them. Otherwise the parent, which sends the next message before it takes an answer, and this process could
    wait for each other to read: a pipe may hold no more than a page (pipe(7): /proc/sys/fs/pipe-user-pages-soft).
    """
    messages = SimpleQueue[Any]()
    sink = sys.stdout.buffer
    try:
        answer = begin()
        threading.Thread(target=_receive, args=(messages,), daemon=True).start()
        for message in iter(messages.get, None):
            marshal.dump(answer(message), sink)
            sink.flush()
    except BaseException as error:
        if number := _limit(error):
            with suppress(BrokenPipeError):
                marshal.dump((LIMITED, "", number, os.strerror(number)), sink)
                sink.flush()
        elif not isinstance(error, EOFError | BrokenPipeError):
            # those are a parent that was interrupted or killed; of anything else it sees the traceback
            sys.excepthook(type(error), error, error.__traceback__)
        # at once: the interpreter would complain that it cannot flush, or that the thread still reads
        os._exit(1)


def _limit(error: BaseException) -> int:
    """The errno of an error that no file is to blame for, 0 for any other."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if "can't start new thread" in str(error):
        return errno.EAGAIN
    return error.errno or 0 if isinstance(error, OSError) and error.errno in _LIMITS else 0


def _receive(messages: SimpleQueue[Any]) -> None:
    """Put each message into the queue, and None when standard input ends."""
    try:
        while True:
            messages.put(marshal.load(sys.stdin.buffer))
    except EOFError:
        pass
    finally:
        messages.put(None)


class Writer:
    """Writes regular files as objects into a staging directory, unless they are there or in the repository."""

    def __init__(
        self,
        archive: bool,
        past_cache: bool,
        objects: str,
        staging: str,
        level: int | None,
        attributes: list[Attributes],
        spools: list[str],
    ) -> None:
        self._archive = archive
        self._suffix = ".filez" if archive else ".file"
        self._objects = os.open(objects, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._staging = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._attributes = attributes
        self._deflater = Deflater(level)
        # one more byte, to detect a file that grew
        self._buffer = direct.Buffer(WHOLE_MAX + 1) if past_cache else None
        self._spools = [os.open(path, OPEN) for path in spools]
        self._umask = os.umask(0)
        os.umask(self._umask)

    def write_batch(self, batch: list[Job]) -> list[Written] | Failure:
        """Write a batch. Returns the answers in its order, or the first failure."""
        try:
            return [self._write(path, self._attributes[index], sha256, ahead) for path, index, sha256, ahead in batch]
        except _Failed as failed:
            failure: Failure = failed.args[0]
            return failure

    def _write(self, path: str, attributes: Attributes, sha256: str, ahead: Stream | None) -> Written:
        try:
            source = os.open(path, OPEN)
            try:
                status = os.fstat(source)
                size = status.st_size
                if not stat.S_ISREG(status.st_mode):
                    raise _Failed((NOT_REGULAR, path, 0, ""))
                if size > WHOLE_MAX:
                    return self._write_streamed(path, source, status, attributes, sha256, ahead)
                data = self._content(source, size)
            finally:
                os.close(source)
        except OSError as error:
            raise _Failed((READ, path, error.errno or 0, error.strerror or str(error))) from error
        if len(data) != size:
            raise _Failed((CHANGED, path, 0, ""))
        # even if the object exists, because its checksum will be remembered under this digest
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise _Failed((DAMAGED, path, 0, ""))
        digest = hashlib.sha256(attributes[0])
        digest.update(data)
        checksum = digest.digest()

        def fill(fd: int) -> int:
            if isinstance(data, memoryview):
                return direct.write(fd, data)
            if self._archive:
                return _write_pieces(
                    fd,
                    _filez_header(size, attributes),
                    *(self._stream(ahead, status.st_ino) or (self._deflater.compress(data),)),
                )
            return _write_pieces(fd, data)

        return checksum, size, self._create(checksum, attributes, fill)

    def _content(self, source: int, size: int) -> bytes | memoryview:
        """Like _read(), but a large file that is to bypass the page cache is read into the buffer, as a memoryview."""
        if self._buffer is None or size < direct.LEAST:
            return _read(source, size)
        return self._buffer.read(source, size + 1)

    def _pieces(self, source: int) -> Iterator[bytes | memoryview]:
        if self._buffer is None:
            yield from chunks(source)
            return
        place = 0
        while piece := self._buffer.read(source, PIECE, place):
            yield piece
            place += len(piece)

    def _stream(self, ahead: Stream | None, inode: int) -> Iterable[bytes] | None:
        """The stream deflated ahead, if it is complete and was made from this inode, whose contents have just been hashed."""
        if ahead is None:
            return None
        spool, place, size, source = ahead
        fd = self._spools[spool]
        if source != inode or os.fstat(fd).st_size < place + size:
            return None
        return chunks(fd, place, place + size)

    def _write_streamed(
        self,
        path: str,
        source: int,
        status: os.stat_result,
        attributes: Attributes,
        sha256: str,
        ahead: Stream | None,
    ) -> Written:
        """Write a file that is too large to hold. It is read once for the checksum, which names the object, and once more to
        write it."""
        size = status.st_size
        digest, plain = hashlib.sha256(attributes[0]), hashlib.sha256()
        for chunk in self._pieces(source):
            digest.update(chunk)
            if sha256:
                plain.update(chunk)
        if sha256 and plain.hexdigest() != sha256:
            raise _Failed((DAMAGED, path, 0, ""))
        checksum = digest.digest()

        def fill(fd: int) -> int:
            written = _write_pieces(fd, _filez_header(size, attributes)) if self._archive else 0
            if self._archive and (stream := self._stream(ahead, status.st_ino)):
                return written + sum(_write_pieces(fd, piece) for piece in stream)
            again = hashlib.sha256(attributes[0])
            packer = self._deflater.stream()
            for chunk in self._pieces(source):
                again.update(chunk)
                if isinstance(chunk, memoryview):
                    written += direct.write(fd, chunk, written)
                else:
                    written += _write_pieces(fd, packer.compress(chunk) if self._archive else chunk)
            if self._archive:
                written += _write_pieces(fd, packer.flush())
            if again.digest() != checksum:
                raise _Failed((CHANGED, path, 0, ""))
            return written

        return checksum, size, self._create(checksum, attributes, fill)

    def _create(self, checksum: bytes, attributes: Attributes, fill: Callable[[int], int]) -> int:
        """Create the object's file and fill it. Returns the number of bytes written, -1 if the object existed."""
        text = checksum.hex()
        name = f"{text[:2]}/{text[2:]}{self._suffix}"
        try:
            # until it is complete, its owner must be able to write to it, including xattrs
            wanted = 0o644 if self._archive else attributes[3][2] & 0o777 | 0o200
            made = wanted & ~self._umask
            fd = self._open_new(name, made)
            if fd < 0:
                return -1
            try:
                written = fill(fd)
                if self._archive and made != wanted:
                    os.fchmod(fd, wanted)
                if not self._archive:
                    _apply(fd, attributes[3], made)
            finally:
                os.close(fd)
        except OSError as error:
            raise _Failed((WRITE, "", error.errno or 0, error.strerror or str(error))) from error
        return written

    def _open_new(self, name: str, mode: int) -> int:
        try:
            os.stat(name, dir_fd=self._objects, follow_symlinks=False)
            return -1
        except FileNotFoundError:
            pass
        try:
            try:
                return os.open(name, _CREATE, mode, dir_fd=self._staging)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(name[:2], 0o777, dir_fd=self._staging)
                return os.open(name, _CREATE, mode, dir_fd=self._staging)
        except FileExistsError:
            # another worker writes it, or has written it
            return -1


class Packer:
    """Deflates files into a spool, which exists and is empty, one stream after another."""

    def __init__(self, spool: str, level: int | None) -> None:
        self._fd = os.open(spool, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._place = 0
        self._deflater = Deflater(level)

    def pack_batch(self, batch: list[str]) -> list[tuple[int, int, int]]:
        """Deflate a batch. Returns the offset and size of each stream, and the inode of its source."""
        return [self._pack(path) for path in batch]

    def _pack(self, path: str) -> tuple[int, int, int]:
        try:
            source = os.open(path, OPEN)
            try:
                status = os.fstat(source)
                place, packed = self._place, 0
                for stream in self._streams(source, status.st_size):
                    packed += len(stream)
                    if os.pwrite(self._fd, stream, place + packed - len(stream)) < len(stream):
                        return _NO_STREAM
            finally:
                os.close(source)
        except OSError:
            # a writer will meet and report the same error
            return _NO_STREAM
        self._place += packed
        return place, packed, status.st_ino

    def _streams(self, source: int, size: int) -> Iterator[bytes | memoryview]:
        """Yield the stream of a file in pieces; nothing if the file is empty or does not have this size."""
        if size <= WHOLE_MAX:
            data = _read(source, size)
            if data and len(data) == size:
                yield self._deflater.compress(data)
            return
        packer = self._deflater.stream()
        for chunk in chunks(source):
            yield packer.compress(chunk)
        yield packer.flush()


def _apply(fd: int, inode: Inode, made: int) -> None:
    """Set the attributes of a file, and its mtime to 0. made: its current mode."""
    uid, gid, mode, xattrs = inode
    # in this order: chown removes setuid bits and capabilities, and xattrs can be set only while the file is writable
    if uid >= 0:
        os.fchown(fd, uid, gid)
    for name, value in xattrs:
        os.setxattr(fd, name, value)
    if uid >= 0 or mode != made:
        os.fchmod(fd, mode)
    os.utime(fd, ns=(0, 0))


def _filez_header(size: int, attributes: Attributes) -> bytes:
    return attributes[1] + size.to_bytes(8, "big") + attributes[2]


def _read(fd: int, size: int) -> bytes:
    """Read a file that should have `size` bytes. Reads one more byte, to detect a file that grew."""
    data = os.read(fd, size + 1)
    while len(data) < size and (more := os.read(fd, size + 1 - len(data))):
        data += more
    return data


def chunks(fd: int, place: int = 0, end: int = sys.maxsize) -> Iterator[bytes]:
    """Yield a file's bytes from offset `place` to `end` in pieces of at most PIECE bytes. Raises OSError."""
    while place < end and (chunk := os.pread(fd, min(PIECE, end - place), place)):
        yield chunk
        place += len(chunk)


def _write_pieces(fd: int, *pieces: bytes | memoryview) -> int:
    total = sum(map(len, pieces))
    written = os.writev(fd, pieces)
    if written < total:
        # because of a full disk or a signal: write the rest, or get the error
        rest = memoryview(b"".join(pieces))[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]
    return total
