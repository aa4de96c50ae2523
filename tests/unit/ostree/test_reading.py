"""Content objects read in pieces: whole, checked, and in little memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from compose.errors import RepositoryError
from compose.events import Reporter
from compose.fs import CHUNK
from compose.ostree.config import Mode
from compose.ostree.content import Content
from compose.ostree.gvariant import encode
from compose.ostree.objects import encode_xattrs, file_header, filez_header, object_name
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction

_NOISE = os.urandom(CHUNK)
_FILES = {
    "empty": b"",
    "short": b"content" * 1000,
    "noise": _NOISE,
    "large": _NOISE + bytes(12 << 20) + _NOISE,
    # a piece ends amid of what the last byte of the deflate stream says
    **{f"a match of {more}": bytes(CHUNK + more) for more in (1, 100, 257, 258, 259, 500)},
}
_BOUND = 8 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """A repository, and the checksum of each of _FILES and of "link", in it."""

    repo: Path
    mode: Mode
    checksums: dict[str, bytes]

    def read(self, name: str) -> bytes:
        with Repo.open(str(self.repo)) as opened, opened.open_content(self.checksums[name]) as content:
            return b"".join(content.pieces)

    def object(self, name: str) -> Path:
        text = self.checksums[name].hex()
        (found,) = (self.repo / "objects" / text[:2]).glob(f"{text[2:]}.*")
        return found

    def damaged(self, top: Path, change: Callable[[Path], object], name: str = "short") -> str:
        """What is said of one object, changed, in another repository."""
        other = Site(top / "repo", self.mode, self.checksums)
        Repo.create(str(other.repo), self.mode).__exit__()
        place = other.repo / self.object(name).relative_to(self.repo)
        place.parent.mkdir()
        change(Path(shutil.copy2(self.object(name), place, follow_symlinks=False)))
        with pytest.raises(RepositoryError) as caught:
            other.read(name)
        assert f"ostree --repo={other.repo} fsck" in (caught.value.hint or "")
        assert self.checksums[name].hex() in caught.value.message
        return caught.value.message


def _made(top: Path, mode: Mode) -> Site:
    contents = [Content(uid=0, gid=0, mode=0o120777, xattrs=(), target="usr/bin")]
    for place, data in enumerate(_FILES.values()):
        path = top / str(place)
        path.write_bytes(data)
        contents.append(Content(uid=0, gid=0, mode=0o100644, xattrs=(), path=str(path), size=len(data)))
    known: dict[int, bytes] = {}
    with Repo.create(str(top / "repo"), mode) as repo, Transaction(repo, jobs=1, reporter=Reporter()) as transaction:
        transaction.write_contents(contents, known.update, lambda _objects, _bytes: None)
    return Site(top / "repo", mode, {name: known[place] for place, name in enumerate(("link", *_FILES))})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mode], Site]:
    return cache(lambda mode: _made(tmp_path_factory.mktemp("reading"), mode))


@pytest.fixture(scope="module", params=[Mode.ARCHIVE, Mode.BARE_USER, Mode.BARE])
def site(request: pytest.FixtureRequest, made: Callable[[Mode], Site]) -> Site:
    if request.param is Mode.BARE and os.geteuid():
        pytest.skip("owners are root's to give")
    return made(request.param)


@pytest.fixture(scope="module")
def archive(made: Callable[[Mode], Site]) -> Site:
    return made(Mode.ARCHIVE)


@pytest.mark.parametrize("name", _FILES)
def test_what_was_written_is_read(site: Site, name: str) -> None:
    assert site.read(name) == _FILES[name]
    with Repo.open(str(site.repo)) as repo, repo.open_content(site.checksums[name]) as content:
        assert content.size == len(_FILES[name])


def test_a_symlink(site: Site) -> None:
    with Repo.open(str(site.repo)) as repo, repo.open_content(site.checksums["link"]) as content:
        assert (content.info.target, content.info.mode, content.size) == ("usr/bin", 0o120777, 0)
        assert list(content.pieces) == []


def test_a_large_file_takes_little_memory(site: Site) -> None:
    digest, sizes = hashlib.sha256(), []
    tracemalloc.start()
    try:
        with Repo.open(str(site.repo)) as repo, repo.open_content(site.checksums["large"]) as content:
            for piece in content.pieces:
                digest.update(piece)
                sizes.append(len(piece))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest.digest() == hashlib.sha256(_FILES["large"]).digest()
    assert max(sizes) <= CHUNK
    assert peak < _BOUND


def test_a_changed_byte_is_found_behind_the_last_piece(site: Site, tmp_path: Path) -> None:
    def change(place: Path) -> None:
        data = bytearray(place.read_bytes())
        data[len(data) // 2] ^= 1
        place.write_bytes(data)

    assert "is damaged" in site.damaged(tmp_path, change, "noise")


def test_a_symlink_to_elsewhere(site: Site, tmp_path: Path) -> None:
    def change(place: Path) -> None:
        if site.mode is Mode.BARE:
            place.unlink()
            place.symlink_to("usr/sbin")
        else:
            place.write_bytes(place.read_bytes().replace(b"usr/bin", b"usr/lib"))

    assert site.damaged(tmp_path, change, "link").endswith("is damaged: its checksum differs")


def test_one_that_is_missing(site: Site, tmp_path: Path) -> None:
    assert "cannot read the object" in site.damaged(tmp_path, Path.unlink)


def test_bare_user_without_its_xattr(made: Callable[[Mode], Site], tmp_path: Path) -> None:
    said = made(Mode.BARE_USER).damaged(tmp_path, lambda place: os.removexattr(place, "user.ostreemeta"))
    assert said.endswith("is damaged: it has no user.ostreemeta")


def _stream(place: Path) -> int:
    """Where it begins in a .filez."""
    return 8 + int.from_bytes(place.read_bytes()[:4], "big")


def test_a_stream_that_is_cut_short(archive: Site, tmp_path: Path) -> None:
    said = archive.damaged(tmp_path, lambda place: os.truncate(place, place.stat().st_size - 4))
    assert "it claims 7000 bytes and has" in said


def test_a_stream_that_swells(archive: Site, tmp_path: Path) -> None:
    bomb = zlib.compressobj(1, zlib.DEFLATED, -15)
    stream = bomb.compress(bytes(64 << 20)) + bomb.flush()
    tracemalloc.start()
    try:
        said = archive.damaged(tmp_path, lambda place: place.write_bytes(place.read_bytes()[: _stream(place)] + stream))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said.endswith("it claims 7000 bytes and has more")
    assert peak < _BOUND


def test_no_stream(archive: Site, tmp_path: Path) -> None:
    said = archive.damaged(
        tmp_path, lambda place: place.write_bytes(place.read_bytes()[: _stream(place)] + b"\xff" * 20)
    )
    assert "is damaged" in said


@pytest.mark.parametrize("length", [0xFFFFFFFF, 1, 0])
def test_a_header_of_another_length(archive: Site, tmp_path: Path, length: int) -> None:
    said = archive.damaged(
        tmp_path, lambda place: place.write_bytes(length.to_bytes(4, "big") + place.read_bytes()[4:])
    )
    assert "is damaged" in said


def test_an_empty_object(archive: Site, tmp_path: Path) -> None:
    assert "is damaged" in archive.damaged(tmp_path, lambda place: os.truncate(place, 0))


def test_a_header_of_an_older_libostree(tmp_path: Path) -> None:
    """It has xattrs as they were on the disk, and sorts them for the checksum."""
    xattrs = ((b"user.note", b"1"), (b"security.selinux", b"label\0"))
    given = encode("a(ayay)", [(name + b"\0", value) for name, value in xattrs])
    checksum = hashlib.sha256(file_header(0, 0, 0o100644, b"", encode_xattrs(xattrs)) + b"content").digest()
    stream = zlib.compressobj(wbits=-15)
    data = filez_header(7, 0, 0, 0o100644, b"", given) + stream.compress(b"content") + stream.flush()
    with Repo.create(str(tmp_path / "repo")) as repo:
        place = Path(repo.path, "objects", object_name(checksum.hex(), "filez"))
        place.parent.mkdir()
        place.write_bytes(data)
        with repo.open_content(checksum) as content:
            assert dict(content.info.xattrs) == dict(xattrs)
            assert b"".join(content.pieces) == b"content"
