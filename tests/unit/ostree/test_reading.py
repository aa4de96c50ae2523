"""Content objects read in pieces: whole, checked, and in little memory."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
import zlib
from pathlib import Path

import pytest

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.content import Content
from compose.ostree.reading import PIECE
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction

MODES = (Mode.ARCHIVE, Mode.BARE_USER, Mode.BARE)
_LARGE = 16 << 20
_BOUND = 8 << 20


def written(path: Path, mode: Mode, *contents: Content) -> list[bytes]:
    """Checksums in a new repository."""
    if mode is Mode.BARE and os.geteuid():
        pytest.skip("owners are root's to give")
    known: dict[int, bytes] = {}
    with (
        Repo.create(str(path), mode) as repo,
        Transaction(repo, jobs=1, reporter=Reporter()) as transaction,
    ):
        transaction.write_contents(contents, known.update, lambda _objects, _bytes: None)
    return [known[place] for place in range(len(contents))]


def regular(path: Path) -> Content:
    return Content(uid=0, gid=0, mode=0o100644, xattrs=(), path=str(path), size=path.stat().st_size)


def object_of(repo: Path, checksum: bytes) -> Path:
    (found,) = (repo / "objects" / checksum.hex()[:2]).glob(f"{checksum.hex()[2:]}.*")
    return found


def read(repo: Path, checksum: bytes) -> bytes:
    with Repo.open(str(repo)) as opened, opened.open_content(checksum) as content:
        return b"".join(content.pieces)


@pytest.mark.parametrize("mode", MODES)
def test_a_large_file_takes_little_memory(mode: Mode, tmp_path: Path) -> None:
    noise = os.urandom(1 << 20)
    (tmp_path / "large").write_bytes(noise + bytes(_LARGE) + noise)
    (checksum,) = written(tmp_path / "repo", mode, regular(tmp_path / "large"))
    digest, sizes = hashlib.sha256(), []
    tracemalloc.start()
    try:
        with Repo.open(str(tmp_path / "repo")) as repo, repo.open_content(checksum) as content:
            assert content.info.mode == 0o100644
            for piece in content.pieces:
                digest.update(piece)
                sizes.append(len(piece))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256((tmp_path / "large").read_bytes()).digest()
    assert max(sizes) <= PIECE
    assert peak < _BOUND


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(3 * PIECE), os.urandom(PIECE)], ids=["empty", "short", "zero", "noise"]
)
def test_what_was_written_is_read(mode: Mode, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    symlink = Content(uid=0, gid=0, mode=0o120777, xattrs=(), target="usr/bin")
    file, link = written(tmp_path / "repo", mode, regular(tmp_path / "file"), symlink)
    assert read(tmp_path / "repo", file) == data
    with Repo.open(str(tmp_path / "repo")) as repo, repo.open_content(link) as content:
        assert (content.info.target, content.info.mode, list(content.pieces)) == ("usr/bin", 0o120777, [])


@pytest.mark.parametrize("mode", MODES)
def test_a_changed_byte_is_found_behind_the_last_piece(mode: Mode, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(PIECE))
    (checksum,) = written(tmp_path / "repo", mode, regular(tmp_path / "file"))
    found = object_of(tmp_path / "repo", checksum)
    data = bytearray(found.read_bytes())
    data[len(data) // 2] ^= 1
    found.write_bytes(data)
    with pytest.raises(RepositoryError, match=f"{checksum.hex()}.file.* is damaged"):
        read(tmp_path / "repo", checksum)


class TestArchive:
    @pytest.fixture
    def checksum(self, tmp_path: Path) -> bytes:
        (tmp_path / "file").write_bytes(b"content" * 1000)
        (found,) = written(tmp_path / "repo", Mode.ARCHIVE, regular(tmp_path / "file"))
        return found

    def damage(self, tmp_path: Path, checksum: bytes, change) -> str:
        found = object_of(tmp_path / "repo", checksum)
        found.write_bytes(change(found.read_bytes()))
        with pytest.raises(RepositoryError) as caught:
            read(tmp_path / "repo", checksum)
        assert "ostree" in (caught.value.hint or "")
        return caught.value.message

    @pytest.mark.parametrize("more", [1, 100, 257, 258, 259, 500])
    def test_a_piece_that_ends_amid_of_what_the_last_byte_says(self, tmp_path: Path, more: int) -> None:
        (tmp_path / "file").write_bytes(bytes(PIECE + more))
        (checksum,) = written(tmp_path / "repo", Mode.ARCHIVE, regular(tmp_path / "file"))
        assert read(tmp_path / "repo", checksum) == bytes(PIECE + more)

    def test_a_stream_that_is_cut_short(self, tmp_path: Path, checksum: bytes) -> None:
        assert "it says to have 7000 bytes, and has" in self.damage(tmp_path, checksum, lambda data: data[:-4])

    def test_a_stream_that_swells(self, tmp_path: Path, checksum: bytes) -> None:
        bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
        stream = bomb.compress(bytes(64 << 20)) + bomb.flush()

        def change(data: bytes) -> bytes:
            return data[: 8 + int.from_bytes(data[:4], "big")] + stream

        tracemalloc.start()
        try:
            assert "and has more" in self.damage(tmp_path, checksum, change)
            assert tracemalloc.get_traced_memory()[1] < _BOUND
        finally:
            tracemalloc.stop()

    def test_no_stream(self, tmp_path: Path, checksum: bytes) -> None:
        self.damage(tmp_path, checksum, lambda data: data[: 8 + int.from_bytes(data[:4], "big")] + b"\xff" * 20)

    @pytest.mark.parametrize("header", [b"\xff\xff\xff\xff", b"\0\0\0\1"])
    def test_a_header_of_another_length(self, tmp_path: Path, checksum: bytes, header: bytes) -> None:
        self.damage(tmp_path, checksum, lambda data: header + data[4:])

    def test_an_empty_object(self, tmp_path: Path, checksum: bytes) -> None:
        self.damage(tmp_path, checksum, lambda data: b"")


def test_bare_user_without_its_xattr(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (checksum,) = written(tmp_path / "repo", Mode.BARE_USER, regular(tmp_path / "file"))
    os.removexattr(object_of(tmp_path / "repo", checksum), "user.ostreemeta")
    with pytest.raises(RepositoryError, match=r"is damaged: it has no user\.ostreemeta"):
        read(tmp_path / "repo", checksum)


@pytest.mark.parametrize("mode", MODES)
def test_one_that_is_missing(mode: Mode, tmp_path: Path) -> None:
    written(tmp_path / "repo", mode)
    with pytest.raises(RepositoryError, match=r"cannot read the object 00.*No such file") as caught:
        read(tmp_path / "repo", bytes(32))
    assert "fsck" in (caught.value.hint or "")
