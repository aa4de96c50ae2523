"""Streams that are deflated before their objects are known."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.events import Reporter
from compose.ostree import ahead, worker
from compose.ostree.ahead import DeflateAhead
from compose.ostree.worker import Packer, Writer

CONTENTS = [b"a" * 70_000, bytes(range(256)) * 40, b"b", b""]
File = tuple[str, int, str]


@pytest.fixture
def files(tmp_path: Path) -> list[File]:
    made = []
    for number, data in enumerate(CONTENTS):
        path = tmp_path / f"file-{number}"
        path.write_bytes(data)
        made.append((str(path), len(data), hashlib.sha256(data).hexdigest()))
    return made


def packed(files: list[File], spool: Path) -> list[bytes]:
    """What the streams of files inflate to, b"" where there is none."""
    spool.touch()
    answer = Packer(str(spool), None).pack_batch([path for path, _, _ in files])
    data = spool.read_bytes()
    return [zlib.decompress(data[place : place + size], wbits=-15) if size else b"" for place, size, _ in answer]


def archive_writer(place: Path, spool: Path) -> tuple[Writer, Path]:
    """A writer, and where it writes to."""
    objects, staging = place / "objects", place / "staging"
    objects.mkdir()
    staging.mkdir()
    attributes = [(b"header", b"", b"", (-1, -1, 0o644, []))]
    return Writer(True, False, str(objects), str(staging), None, attributes, [str(spool)]), staging


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_each_stream_is_that_of_its_file(files, tmp_path):
    assert packed(files, tmp_path / "spool") == CONTENTS


def test_a_file_too_large_to_hold_is_deflated_in_pieces_and_its_stream_used(files, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "WHOLE_MAX", 1 << 10)
    monkeypatch.setattr(worker, "PIECE", 1 << 10)
    spool = tmp_path / "spool"
    assert packed(files, spool) == CONTENTS
    path, _, sha256 = files[0]
    with spool.open("ab") as stream:
        size = stream.write(mark := zlib.compress(b"of another file", wbits=-15))
    made_ahead = (0, spool.stat().st_size - size, size, os.stat(path).st_ino)
    writer, staging = archive_writer(tmp_path, spool)
    ((_, taken, written),) = writer.write_batch([(path, 0, sha256, made_ahead)])
    assert taken == len(CONTENTS[0])
    (made,) = staging.glob("*/*")
    assert made.read_bytes()[8:] == mark
    assert written == 8 + size


def test_a_file_that_cannot_be_read_has_no_stream(files, tmp_path):
    Path(files[0][0]).unlink()
    Path(files[1][0]).unlink()
    Path(files[1][0]).symlink_to(files[2][0])
    assert packed(files, tmp_path / "spool") == [b"", b"", b"b", b""]


def test_the_stream_of_another_inode_is_not_used(files, tmp_path):
    """A damaged blob that was replaced since: its stream holds what it was."""
    path, _, sha256 = files[0]
    good = Path(path).read_bytes()
    Path(path).write_bytes(b"c" * len(good))
    (tmp_path / "spool").touch()
    ((place, size, inode),) = Packer(str(tmp_path / "spool"), None).pack_batch([path])
    (tmp_path / "new").write_bytes(good)
    (tmp_path / "new").replace(path)
    writer, staging = archive_writer(tmp_path, tmp_path / "spool")
    written = writer.write_batch([(path, 0, sha256, (0, place, size, inode))])
    assert not isinstance(written, tuple)
    (made,) = staging.glob("*/*")
    # the size stands before the stream
    assert zlib.decompress(made.read_bytes()[8:], wbits=-15) == good


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_WORTHWHILE", 0)


@pytest.mark.usefixtures("at_once")
def test_what_is_added_later_and_what_nobody_needs(files, tmp_path):
    digests = [sha256 for _, _, sha256 in files]
    with DeflateAhead(
        str(tmp_path),
        level=None,
        processes=1,
        known={bytes.fromhex(digests[1]), bytes.fromhex(digests[3])},
        reporter=Reporter(),
    ) as background:
        background.add(files[:2])
        wait_for(lambda: background.streams.keys() == {digests[0]})
        # its process has had nothing to do for a while
        background.add(files[1:] * 2)
        wait_for(lambda: background.streams.keys() == {digests[0], digests[2]})
        streams = background.finish()
        background.add([(files[0][0], 1, "0" * 64)])
        assert background.finish() == streams
    (spool,) = background.spools
    data = Path(spool).read_bytes()
    for content, digest in zip(CONTENTS, digests, strict=True):
        if digest in streams:
            _, place, size, _ = streams[digest]
            assert zlib.decompress(data[place : place + size], wbits=-15) == content


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come")


@pytest.mark.usefixtures("at_once")
def test_a_full_disk_is_left_alone(files, tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "_ROOM", 1 << 60)
    with DeflateAhead(str(tmp_path), level=None, processes=2, reporter=Reporter()) as background:
        background.add(files)
        assert background.spools == ()
        assert background.finish() == {}


def test_little_is_not_worth_a_process_but_goes_with_more(files, tmp_path):
    with DeflateAhead(str(tmp_path), level=None, processes=1, reporter=Reporter()) as background:
        background.add(files)
        assert background.spools == ()
        large = tmp_path / "large"
        large.write_bytes(bytes(5 << 20))
        digest = hashlib.sha256(large.read_bytes()).hexdigest()
        background.add([*files, (str(large), 5 << 20, digest)])
        wait_for(lambda: background.streams.keys() == {digest, *(sha256 for _, size, sha256 in files if size)})


@pytest.mark.usefixtures("at_once")
def test_a_process_that_is_killed_is_no_failure(files, tmp_path):
    before = children()
    with DeflateAhead(str(tmp_path), level=None, processes=1, reporter=Reporter()) as background:
        background.add(files)
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)
        assert background.finish().keys() <= {sha256 for _, _, sha256 in files}
        # its place to write to is there for who looks
        assert [Path(spool).exists() for spool in background.spools] == [True]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("refused", [OSError(errno.EAGAIN, "no processes"), RuntimeError("can't start new thread")])
def test_a_machine_that_gives_no_more_processes_is_no_failure(refused, files, tmp_path, monkeypatch):
    def refuse(*_arguments: object, **_more: object) -> None:
        raise refused

    monkeypatch.setattr(
        *((subprocess, "Popen") if isinstance(refused, OSError) else (threading.Thread, "start")), refuse
    )
    before = children()
    with DeflateAhead(str(tmp_path), level=None, processes=2, reporter=Reporter()) as background:
        background.add(files)
        assert background.finish() == {}
    assert children() == before


@pytest.mark.usefixtures("at_once")
def test_leaving_before_the_end_leaves_no_process(files, tmp_path):
    before = children()
    with DeflateAhead(str(tmp_path), level=9, processes=2, reporter=Reporter()) as background:
        background.add(files)
        assert len(children() - before) == 2
    assert children() == before
