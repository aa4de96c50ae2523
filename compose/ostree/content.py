"""Writing content objects (regular files and symlinks) into a staging directory, on all cores.

Processes and not threads: a third of the work on small files is Python's own. They are started, not forked, for the
compose has threads; they end when their input does, so none outlives a killed compose.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from compose import fs
from compose.errors import RepositoryError, StorageError
from compose.ostree.config import Mode
from compose.ostree.deflate import STREAMED_FROM, Deflater
from compose.ostree.objects import Xattrs, encode_dirmeta, encode_xattrs, file_header, filez_header

_CHUNK = 1 << 20
_BATCH_BYTES = 4 << 20
_BATCH_FILES = 256
_SAMPLE = 64 << 10
_INCOMPRESSIBLE = 0.96
"""A sample that deflates to more than this is stored: what is compressed already costs the most time and gains nothing."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Content:
    """One content object to write: a regular file read from `path`, or a symlink with `target`.

    mode: full st_mode. size: bytes, for sharing out the work and for progress; 0 for a symlink.
    """

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs
    path: str | None = None
    target: str | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class ContentStats:
    """objects: distinct ones asked for; written: of them, were not there. bytes: of files hashed; of files written."""

    objects: int = 0
    written: int = 0
    bytes_hashed: int = 0
    bytes_written: int = 0

    def __add__(self, other: ContentStats) -> ContentStats:
        return ContentStats(
            self.objects + other.objects,
            self.written + other.written,
            self.bytes_hashed + other.bytes_hashed,
            self.bytes_written + other.bytes_written,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Where objects go. objects: the repository's own directory, looked at; staging: written to. level: of deflate."""

    mode: Mode
    objects: str
    staging: str
    level: int

    @property
    def suffix(self) -> str:
        return ".filez" if self.mode is Mode.ARCHIVE else ".file"


def write_contents(
    contents: Sequence[Content], target: Target, jobs: int, on_progress: Callable[[int, int], None]
) -> tuple[list[bytes], ContentStats]:
    """Checksums (32 bytes each) in the order of contents. on_progress(objects, bytes) may come from any thread.

    Raises StorageError when the disk refuses, RepositoryError when a worker dies, OSError when a file cannot be read.
    """
    positions: dict[Content, list[int]] = {}
    for index, content in enumerate(contents):
        positions.setdefault(content, []).append(index)
    checksums: list[bytes] = [b""] * len(contents)
    batches = iter(_batches(list(positions)))
    total = ContentStats()
    failure: list[BaseException] = []
    lock = threading.Lock()

    def drive(worker: _Worker) -> None:
        nonlocal total
        try:
            while not failure:
                with lock:
                    batch = next(batches, None)
                if batch is None:
                    return
                answers, stats = worker.write(batch)
                with lock:
                    for content, checksum in zip(batch, answers, strict=True):
                        for index in positions[content]:
                            checksums[index] = checksum
                    total += stats
                on_progress(len(batch), sum(each.size for each in batch))
        except BaseException as error:
            failure.append(error)

    workers = [_Worker(target) for _ in range(max(1, min(jobs, len(positions))))]
    try:
        threads = [threading.Thread(target=drive, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for worker in workers:
            worker.kill()
    if failure:
        raise failure[0]
    return checksums, total


def _batches(contents: list[Content]) -> Iterator[list[Content]]:
    """Large files first, so that no core is left alone with one at the end."""
    contents.sort(key=lambda each: each.size, reverse=True)
    batch: list[Content] = []
    size = 0
    for content in contents:
        batch.append(content)
        size += content.size
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Worker:
    _PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from compose.ostree.content import serve; serve()"

    def __init__(self, target: Target) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", self._PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # an interrupt from the terminal is for the compose, which then ends its workers
            process_group=0,
        )
        self._send(target)

    def _send(self, value: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(value, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def write(self, batch: list[Content]) -> tuple[list[bytes], ContentStats]:
        assert self._process.stdout is not None
        try:
            self._send(batch)
            answer = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            status = self._process.wait()
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise RepositoryError(f"a process writing objects {how}", hint="compose again") from None
        if isinstance(answer, BaseException):
            raise answer
        checksums: list[bytes]
        stats: ContentStats
        checksums, stats = answer
        return checksums, stats

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def serve() -> None:
    """What a worker does: read a Target, then batches, answer each with checksums or an exception."""
    source: BinaryIO = sys.stdin.buffer
    writer = _Writer(pickle.load(source))
    while True:
        try:
            batch = pickle.load(source)
        except EOFError:
            return
        try:
            answer: object = writer.write_batch(batch)
        except (StorageError, RepositoryError, OSError) as error:
            answer = error
        except Exception:
            answer = RuntimeError(traceback.format_exc())
        pickle.dump(answer, sys.stdout.buffer, protocol=pickle.HIGHEST_PROTOCOL)
        sys.stdout.buffer.flush()


class _Writer:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._archive = target.mode is Mode.ARCHIVE
        self._objects = os.open(target.objects, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._staging = os.open(target.staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._deflater = Deflater(target.level)
        self._sampler = Deflater(1)
        self._xattrs: dict[Xattrs, bytes] = {}

    def write_batch(self, batch: list[Content]) -> tuple[list[bytes], ContentStats]:
        checksums: list[bytes] = []
        stats = ContentStats()
        for content in batch:
            with fs.storage_errors(self._target.staging):
                checksum, added = self._write(content)
            checksums.append(checksum)
            stats += added
        return checksums, stats

    def _write(self, content: Content) -> tuple[bytes, ContentStats]:
        xattrs = self._xattrs.get(content.xattrs)
        if xattrs is None:
            xattrs = self._xattrs[content.xattrs] = encode_xattrs(content.xattrs)
        if content.path is None:
            assert content.target is not None
            return self._write_symlink(content, content.target.encode(), xattrs)
        source = os.open(content.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(source)
            if not stat.S_ISREG(status.st_mode):
                raise RepositoryError(f"{content.path} is not a regular file")
            if status.st_size >= STREAMED_FROM:
                return self._write_streamed(content, source, xattrs)
            data = _read_all(source, status.st_size)
        finally:
            os.close(source)
        digest = hashlib.sha256(file_header(content.uid, content.gid, content.mode, b"", xattrs))
        digest.update(data)
        fd = self._create(digest.digest())
        written = 0
        if fd is not None:
            with open(fd, "wb", buffering=0) as file:
                if self._archive:
                    header = filez_header(len(data), content.uid, content.gid, content.mode, b"", xattrs)
                    written = _write_pieces(file.fileno(), header, self._deflate(data))
                else:
                    written = _write_pieces(file.fileno(), data)
                    self._finish_bare_user(file.fileno(), content, xattrs)
        return digest.digest(), ContentStats(1, int(fd is not None), len(data), written)

    def _write_symlink(self, content: Content, target: bytes, xattrs: bytes) -> tuple[bytes, ContentStats]:
        checksum = hashlib.sha256(file_header(content.uid, content.gid, content.mode, target, xattrs)).digest()
        fd = self._create(checksum)
        written = 0
        if fd is not None:
            with open(fd, "wb", buffering=0) as file:
                if self._archive:
                    written = _write_pieces(
                        file.fileno(), filez_header(0, content.uid, content.gid, content.mode, target, xattrs)
                    )
                else:
                    # a symlink lies in a bare-user repository as a file with its target, NUL-terminated
                    written = _write_pieces(file.fileno(), target + b"\0")
                    self._finish_bare_user(file.fileno(), content, xattrs)
        return checksum, ContentStats(1, int(fd is not None), 0, written)

    def _write_streamed(self, content: Content, source: int, xattrs: bytes) -> tuple[bytes, ContentStats]:
        """A file too large to hold: its checksum first, for the object's name, then its payload in pieces."""
        digest = hashlib.sha256(file_header(content.uid, content.gid, content.mode, b"", xattrs))
        size = 0
        for chunk in _chunks(source):
            digest.update(chunk)
            size += len(chunk)
        fd = self._create(digest.digest())
        if fd is None:
            return digest.digest(), ContentStats(1, 0, size, 0)
        again = hashlib.sha256(file_header(content.uid, content.gid, content.mode, b"", xattrs))
        with open(fd, "wb", buffering=0) as file:
            written = 0
            if self._archive:
                written += _write_pieces(
                    file.fileno(), filez_header(size, content.uid, content.gid, content.mode, b"", xattrs)
                )
                packer = self._deflater.stream()
                for chunk in _chunks(source):
                    again.update(chunk)
                    written += _write_pieces(file.fileno(), packer.compress(chunk))
                written += _write_pieces(file.fileno(), packer.flush())
            else:
                for chunk in _chunks(source):
                    again.update(chunk)
                    written += _write_pieces(file.fileno(), chunk)
                self._finish_bare_user(file.fileno(), content, xattrs)
        if again.digest() != digest.digest():
            raise RepositoryError(f"{content.path} changed while it was committed")
        return digest.digest(), ContentStats(1, 1, size, written)

    def _create(self, checksum: bytes) -> int | None:
        """A new file in staging for the object; None when it is there or in the repository already."""
        text = checksum.hex()
        directory, name = text[:2], f"{text[:2]}/{text[2:]}{self._target.suffix}"
        try:
            os.stat(name, dir_fd=self._objects, follow_symlinks=False)
            return None
        except FileNotFoundError:
            pass
        try:
            return os.open(name, _CREATE, 0o644, dir_fd=self._staging)
        except FileExistsError:
            return None
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(directory, 0o777, dir_fd=self._staging)
        try:
            return os.open(name, _CREATE, 0o644, dir_fd=self._staging)
        except FileExistsError:
            return None

    def _deflate(self, data: bytes) -> bytes | memoryview:
        if len(data) > 4 * _SAMPLE:
            middle = len(data) // 2
            sample = data[middle : middle + _SAMPLE]
            if len(self._sampler.compress(sample)) > _INCOMPRESSIBLE * _SAMPLE:
                return self._sampler.compress(data)
        return self._deflater.compress(data)

    @staticmethod
    def _finish_bare_user(fd: int, content: Content, xattrs: bytes) -> None:
        os.setxattr(fd, "user.ostreemeta", encode_dirmeta(content.uid, content.gid, content.mode, xattrs))
        if stat.S_ISREG(content.mode):
            os.fchmod(fd, content.mode & 0o775 | 0o400)
        os.utime(fd, ns=(0, 0))


def _read_all(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)
    while len(data) < size and (more := os.read(fd, size + 1 - len(data))):
        data += more
    return data


def _chunks(fd: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(fd, _CHUNK, offset):
        yield chunk
        offset += len(chunk)


def _write_pieces(fd: int, *pieces: bytes | memoryview) -> int:
    total = sum(len(piece) for piece in pieces)
    written = os.writev(fd, pieces)
    if written < total:
        # 2 GiB at once, or a disk that is filling up: the rest, or the error that tells
        fs.write_all(fd, b"".join(pieces)[written:])
    return total
