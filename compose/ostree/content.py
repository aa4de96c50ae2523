"""Content objects (regular files and symlinks): shared out over all cores and written into a staging directory.

Processes and not threads: a third of the work on small files is Python's own. They are started, not forked, for the
compose has threads; they end when their input does, so none outlives a killed compose. The descriptor of the staging
directory's lock goes with them: no one takes the directory for a leftover while one of them still writes into it.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from compose import fs
from compose.errors import RepositoryError, StorageError
from compose.ostree import worker
from compose.ostree.config import Mode
from compose.ostree.objects import Xattrs, encode_dirmeta, encode_xattrs, file_header, filez_header

_BATCH_BYTES = 4 << 20
_BATCH_FILES = 256
_BATCHES_AHEAD = 2
"""Batches a worker has at once, so that it never waits for its parent."""


class DamagedContentError(Exception):
    """The file at `path` has not the digest that its Content says."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


ContentKey = tuple[str, int, int, int, Xattrs]
"""All that a regular file's checksum depends on: sha256 of its bytes, uid, gid, mode, xattrs."""
ContentMemo = MutableMapping[ContentKey, bytes]
"""Checksums (32 bytes) known from earlier commits. A hit says nothing about the repository: that is always looked at."""


@dataclass(frozen=True, slots=True)
class Content:
    """One content object to write: a regular file read from `path`, or a symlink with `target`.

    mode: full st_mode. size: bytes, for sharing out the work and for progress; 0 for a symlink. digest: sha256 of the
    bytes at path, hex, "" when not known; files of one digest are read once, no object is made of other bytes, and a memo
    needs it.
    """

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs
    path: str | None = None
    target: str | None = None
    size: int = 0
    digest: str = ""

    @property
    def key(self) -> ContentKey:
        return (self.digest, self.uid, self.gid, self.mode, self.xattrs)


@dataclass(frozen=True, slots=True)
class ContentStats:
    """objects: asked for, duplicates not counted; written: of them, were not there. bytes_hashed: of files read;
    bytes_written: of objects written."""

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
    """Where objects go.

    objects: the repository's own directory, looked at; staging: written to; lock: descriptor of its lock.
    level: of deflate, None for the default.
    """

    mode: Mode
    objects: str
    staging: str
    lock: int
    level: int | None

    @property
    def suffix(self) -> str:
        return ".filez" if self.mode is Mode.ARCHIVE else ".file"

    def has(self, checksum: bytes) -> bool:
        """Is the content object in the repository?"""
        text = checksum.hex()
        return os.path.lexists(f"{self.objects}/{text[:2]}/{text[2:]}{self.suffix}")


def write_contents(
    contents: Sequence[Content],
    target: Target,
    jobs: int,
    on_progress: Callable[[int, int], None],
    memo: ContentMemo | None = None,
) -> tuple[list[bytes], ContentStats]:
    """Checksums (32 bytes each) in the order of contents. on_progress(objects, bytes) may come from any thread.

    Raises StorageError when the disk refuses, RepositoryError when a source cannot be read, changes or is none, or when
    a worker dies, DamagedContentError.
    """
    checksums: list[bytes] = [b""] * len(contents)
    duplicates: dict[object, list[int]] = {}
    for index, content in enumerate(contents):
        same = content.target if content.target is not None else content.digest or content.path
        kind = (content.target is not None, same, content.uid, content.gid, content.mode, content.xattrs)
        duplicates.setdefault(kind, []).append(index)

    total = ContentStats()
    symlinks: list[list[int]] = []
    regular: list[list[int]] = []
    for places in duplicates.values():
        content = contents[places[0]]
        if content.target is not None:
            symlinks.append(places)
            continue
        known = memo.get(content.key) if memo is not None and content.digest else None
        if known is None or not target.has(known):
            regular.append(places)
            continue
        for place in places:
            checksums[place] = known
        total += ContentStats(objects=1)
        on_progress(1, content.size)

    lock = threading.Lock()

    def take(places: list[int], answer: worker.Written) -> None:
        nonlocal total
        checksum, size, written = answer
        content = contents[places[0]]
        with lock:
            for place in places:
                checksums[place] = checksum
            if memo is not None and content.digest and content.target is None:
                memo[content.key] = checksum
            total += ContentStats(1, int(written >= 0), size, max(written, 0))

    def write_symlinks() -> None:
        for places in symlinks:
            take(places, _write_symlink(contents[places[0]], target))
        on_progress(len(symlinks), 0)

    regular.sort(key=lambda places: contents[places[0]].size, reverse=True)
    _write_regular(contents, regular, target, jobs, take, on_progress, meanwhile=write_symlinks)
    return checksums, total


def _write_regular(
    contents: Sequence[Content],
    regular: list[list[int]],
    target: Target,
    jobs: int,
    take: Callable[[list[int], worker.Written], None],
    on_progress: Callable[[int, int], None],
    meanwhile: Callable[[], None],
) -> None:
    """meanwhile: the caller's own share of the work, done while the workers do theirs."""
    attributes, indices = _attributes(contents, regular)
    setup: worker.Setup = (target.mode is Mode.ARCHIVE, target.objects, target.staging, target.level, attributes)
    batches = _batches(contents, regular)
    failures: list[BaseException] = []
    lock = threading.Lock()
    workers: list[_Worker] = []

    def drive(mine: _Worker) -> None:
        pending: list[list[list[int]]] = []
        try:
            while not failures:
                while len(pending) < _BATCHES_AHEAD:
                    with lock:
                        batch = next(batches, None)
                    if batch is None:
                        break
                    first = [contents[places[0]] for places in batch]
                    mine.send([(each.path or "", indices[_owner_of(each)], each.digest) for each in first])
                    pending.append(batch)
                if not pending:
                    return
                answers = mine.receive(target.staging)
                batch = pending.pop(0)
                for places, answer in zip(batch, answers, strict=True):
                    take(places, answer)
                on_progress(len(batch), sum(answer[1] for answer in answers))
        except BaseException as error:
            failures.append(error)
            for each in workers:
                each.kill()

    threads: list[threading.Thread] = []
    try:
        for _ in range(min(max(1, jobs), len(regular))):
            workers.append(_Worker(setup, target.lock))
        threads = [threading.Thread(target=drive, args=(each,)) for each in workers]
        for thread in threads:
            thread.start()
        meanwhile()
        for thread in threads:
            thread.join()
    finally:
        for each in workers:
            each.kill()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for each in workers:
            each.close()
    if failures:
        raise failures[0]


def _owner_of(content: Content) -> tuple[int, int, int, Xattrs]:
    return content.uid, content.gid, content.mode, content.xattrs


def _attributes(
    contents: Sequence[Content], regular: list[list[int]]
) -> tuple[list[worker.Attributes], dict[tuple[int, int, int, Xattrs], int]]:
    """What workers need to know of each combination of owner, mode and xattrs, and where it stands in the list."""
    attributes: list[worker.Attributes] = []
    indices: dict[tuple[int, int, int, Xattrs], int] = {}
    for places in regular:
        content = contents[places[0]]
        owner = _owner_of(content)
        if owner in indices:
            continue
        if not stat.S_ISREG(content.mode):
            raise RepositoryError(f"{content.path} has mode {content.mode:o}, which is no regular file's")
        indices[owner] = len(attributes)
        xattrs = encode_xattrs(content.xattrs)
        filez = filez_header(0, content.uid, content.gid, content.mode, b"", xattrs)
        attributes.append(
            (
                file_header(content.uid, content.gid, content.mode, b"", xattrs),
                filez[:8],
                filez[16:],
                encode_dirmeta(content.uid, content.gid, content.mode, xattrs),
                content.mode & 0o775 | 0o400,
            )
        )
    return attributes, indices


def _batches(contents: Sequence[Content], regular: list[list[int]]) -> Iterator[list[list[int]]]:
    """In the order given, which is large files first: no core is left alone with one at the end."""
    batch: list[list[int]] = []
    size = 0
    for places in regular:
        batch.append(places)
        size += contents[places[0]].size
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_symlink(content: Content, target: Target) -> worker.Written:
    assert content.target is not None
    if not stat.S_ISLNK(content.mode):
        raise RepositoryError(f"a symlink to {content.target} has mode {content.mode:o}, which is no symlink's")
    text = content.target.encode()
    xattrs = encode_xattrs(content.xattrs)
    checksum = hashlib.sha256(file_header(content.uid, content.gid, content.mode, text, xattrs)).digest()
    if target.has(checksum):
        return checksum, 0, -1
    name = checksum.hex()
    path = f"{target.staging}/{name[:2]}/{name[2:]}{target.suffix}"
    with fs.storage_errors(target.staging):
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o777)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if target.mode is Mode.ARCHIVE:
                data = filez_header(0, content.uid, content.gid, content.mode, text, xattrs)
            else:
                # it lies in a bare-user repository as a file with its target, NUL-terminated
                data = text + b"\0"
            fs.write_all(fd, data)
            if target.mode is Mode.BARE_USER:
                meta = encode_dirmeta(content.uid, content.gid, content.mode, xattrs)
                os.setxattr(fd, "user.ostreemeta", meta)
                os.utime(fd, ns=(0, 0))
        finally:
            os.close(fd)
    return checksum, 0, len(data)


class _Worker:
    """A process running `compose.ostree.worker`."""

    _PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from compose.ostree.worker import serve; serve()"

    def __init__(self, setup: worker.Setup, lock: int) -> None:
        self._process = subprocess.Popen(
            # without the site module: sys.path is handed over as it is here
            [sys.executable, "-I", "-S", "-c", self._PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(lock,),
            # an interrupt from the terminal is for the compose, which then ends its workers
            process_group=0,
        )
        self.send(setup)

    def send(self, message: worker.Setup | worker.Batch) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # receive() says why
            marshal.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def receive(self, staging: str) -> list[worker.Written]:
        """Answer to the oldest batch sent and not answered. staging: named when the disk refuses."""
        assert self._process.stdout is not None
        try:
            answer: list[worker.Written] | worker.Failure = marshal.load(self._process.stdout)
        except EOFError:
            status = self._process.wait()
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise RepositoryError(f"a process writing objects {how}", hint="compose again") from None
        if isinstance(answer, tuple):
            raise _error_of(answer, staging)
        return answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Wait for the end; kill() comes first."""
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


def _error_of(failure: worker.Failure, staging: str) -> Exception:
    kind, path, number, text = failure
    if kind == worker.WRITE:
        return fs.storage_error(staging, OSError(number, text))
    if kind == worker.READ:
        return StorageError(f"cannot read {path}: {text}")
    if kind == worker.DAMAGED:
        return DamagedContentError(path)
    if kind == worker.CHANGED:
        return RepositoryError(f"{path} changed while it was committed")
    return RepositoryError(f"{path} is not a regular file")
