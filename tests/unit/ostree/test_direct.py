"""Files written past the page cache are what they would be otherwise, whatever the filesystem takes."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from compose.ostree import direct
from compose.ostree.worker import Writer

_SIZES = (1, 4095, 4096, 4097, direct.LEAST, direct.LEAST + 1)


def content(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(size % 251)


def through(source: Path, target: Path, piece: int) -> None:
    buffer, place = direct.Buffer(piece), 0
    read, write = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT)
    try:
        while data := buffer.read(read, piece, place):
            place += direct.write(write, data, place)
        assert not fcntl.fcntl(write, fcntl.F_GETFL) & os.O_DIRECT
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("piece", [8192, 1 << 20])
def test_what_was_read_is_written(tmp_path: Path, size: int, piece: int) -> None:
    (tmp_path / "source").write_bytes(content(size))
    through(tmp_path / "source", tmp_path / "target", piece)
    assert (tmp_path / "target").read_bytes() == content(size)


@pytest.mark.parametrize("refused_after", [0, 4096])
def test_what_the_filesystem_refuses_goes_through_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused_after: int
) -> None:
    pwrite = os.pwrite

    def refusing(fd: int, data: memoryview, place: int) -> int:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            if place >= refused_after:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            data = data[:4096]
        return pwrite(fd, data, place)

    monkeypatch.setattr(os, "pwrite", refusing)
    (tmp_path / "source").write_bytes(content(20_000))
    through(tmp_path / "source", tmp_path / "target", 1 << 20)
    assert (tmp_path / "target").read_bytes() == content(20_000)


def test_a_full_disk_is_no_reason_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: memoryview, place: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    (tmp_path / "source").write_bytes(content(8192))
    with pytest.raises(OSError, match="No space left"):
        through(tmp_path / "source", tmp_path / "target", 1 << 20)


@pytest.mark.parametrize("past_cache", [True, False])
@pytest.mark.parametrize("size", _SIZES)
def test_an_object_is_its_file(tmp_path: Path, size: int, past_cache: bool) -> None:
    for name in ("objects", "staging"):
        (tmp_path / name).mkdir()
    (tmp_path / "source").write_bytes(content(size))
    attributes = [(b"header", b"", b"", (-1, -1, 0o644, []))]
    writer = Writer(False, past_cache, str(tmp_path / "objects"), str(tmp_path / "staging"), None, attributes, [])
    ((_, read, written),) = writer.write_batch([(str(tmp_path / "source"), 0, "", None)])
    (made,) = (tmp_path / "staging").glob("*/*")
    assert read == written == size
    assert made.read_bytes() == content(size)
