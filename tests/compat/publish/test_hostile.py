"""A repository that is published from may be anybody's: nothing of it that clients would refuse gets any further."""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.errors import PolicyError, RepositoryError
from compose.ostree.config import Mode
from compose.ostree.gvariant import Variant, be64, encode, frame
from compose.ostree.objects import (
    COMMIT_TYPE,
    Commit,
    decode_commit,
    encode_dirmeta,
    encode_dirtree,
    file_header,
    filez_header,
)
from compose.ostree.repo import Repo
from tests.compat.ostree.test_commit import ostree
from tests.compat.publish.test_publish import run
from tests.support.commits import EPOCH
from tests.support.publication import REF, build, make, objects_of, refs_of, snapshot


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = make(tmp_path / "build")
    build(source, "one")
    return source


def tip(repo: Path) -> Commit:
    with Repo.open(str(repo)) as opened:
        return opened.read_commit(refs_of(repo)[REF])


def put(repo: Path, data: bytes, extension: str, name: bytes | None = None) -> bytes:
    """name: what the checksum is of. Returns the checksum."""
    checksum = hashlib.sha256(name or data)
    place = repo / "objects" / checksum.hexdigest()[:2] / f"{checksum.hexdigest()[2:]}.{extension}"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    return checksum.digest()


def commit(repo: Path, *, tree: bytes = b"", meta: bytes = b"", metadata: object = (), time: int = EPOCH) -> str:
    """Of the ref, like the one that it is at."""
    now = tip(repo)
    data = encode(COMMIT_TYPE, (metadata, b"", (), "", "", be64(time), tree or now.root_tree, meta or now.root_meta))
    return moved(repo, data)


def moved(repo: Path, data: bytes) -> str:
    checksum = put(repo, data, "commit").hex()
    (repo / "refs/heads" / REF).write_text(f"{checksum}\n")
    return checksum


@pytest.mark.parametrize(
    "meta",
    [
        b"x" * 100,
        encode_dirmeta(0, 0, stat.S_IFREG | 0o644, b""),
        encode_dirmeta(0, 0, 0o1040755, b""),
        encode_dirmeta(0, 0, 0o40755, encode("a(ayay)", [(b"user.b\0", b"1"), (b"user.a\0", b"2")])),
    ],
)
def test_directories_of_another_kind(meta: bytes, source: Path, target: Path) -> None:
    commit(source, meta=put(source, meta, "dirmeta"))
    with pytest.raises(RepositoryError, match=r"\.dirmeta is damaged"):
        run(source, target)
    assert objects_of(target) == set()


@pytest.mark.parametrize("ours", [Mode.ARCHIVE, Mode.BARE_USER])
def test_a_file_that_is_a_pipe(ours: Mode, source: Path, tmp_path: Path) -> None:
    mode = stat.S_IFIFO | 0o644
    data = filez_header(0, 0, 0, mode, b"", b"") + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    checksum = put(source, data, "filez", file_header(0, 0, mode, b"", b""))
    commit(source, tree=put(source, encode_dirtree([(b"pipe", checksum)], []), "dirtree"))
    target = make(tmp_path / "srv", ours)
    with pytest.raises(RepositoryError, match=r"\.filez is damaged: its mode 10644"):
        run(source, target)
    assert objects_of(target) == set()


@pytest.mark.parametrize("what", ["file", "symlink"])
def test_what_no_checksum_covers(what: str, source: Path, target: Path) -> None:
    """Any amount could be hidden behind the end of what is hashed."""
    with Repo.open(str(source)) as opened:
        found = {}
        for path in source.glob("objects/*/*.filez"):
            with opened.open_content(bytes.fromhex(path.parent.name + path.stem)) as content:
                found["file" if content.info.target is None else "symlink"] = path
    with found[what].open("ab") as file:
        file.write(bytes(1000))
    ostree(source, "fsck")
    with pytest.raises(RepositoryError, match="there is more data after"):
        run(source, target)
    assert objects_of(target) == set()


def _nested() -> bytes:
    return bytes(8) + b"\0u" + b"\0v" * 5000


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (_nested(), "too deeply"),
        (bytes(8) + b"\0" + b"(" * 500 + b"u" + b")" * 500, "too deeply"),
        (bytes(8) + b"\0" + b"a" * 5000 + b"u", "more than 1024 characters"),
    ],
)
def test_values_that_hold_others_without_end(value: bytes, fault: str, source: Path, target: Path) -> None:
    entry = frame(b"version\0" + value, (8,))
    now = tip(source)
    row = (frame(entry, (len(entry),)), b"", (), "", "", be64(EPOCH), now.root_tree, now.root_meta)
    data = encode("(ayaya(say)sstayay)", row)
    assert not decode_commit(data, ()).metadata
    moved(source, data)
    with pytest.raises(RepositoryError, match=rf"\.commit is damaged: .*{fault}"):
        run(source, target)


@pytest.mark.parametrize("value", [b"x\0\0ss", b"a\0b\0\0s", b"\1\0b" + b"\0v" * 400])
def test_detached_metadata_that_cannot_be_written_again(value: bytes, source: Path, target: Path) -> None:
    row = frame(b"key\0" + bytes(4) + value, (4,))
    checksum = refs_of(source)[REF]
    path = source / "objects" / checksum[:2] / f"{checksum[2:]}.commitmeta"
    path.write_bytes(frame(row, (len(row),)))
    with pytest.raises(RepositoryError, match=r"\.commitmeta is damaged"):
        run(source, target)


def test_a_commit_of_no_calendar(source: Path, target: Path) -> None:
    one = refs_of(source)[REF]
    commit(source, time=1 << 63)
    run(source, target)
    with pytest.raises(PolicyError, match=f"of {1 << 63} s after 1970"):
        run(source, target, f"{REF}={one}")


def test_what_a_version_does_to_a_terminal(source: Path, target: Path) -> None:
    commit(source, metadata=[("version", Variant("s", "1\x1b[2J\nall: done"))])
    assert run(source, target).moves[0].version == r"'1\x1b[2J\nall: done'"


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        (f"refs/heads/{REF}", _pipe, f"refs/heads/{REF}: not a regular file"),
        ("config", _pipe, "config: not a regular file"),
        ("config", _endless, "config: not a regular file"),
    ],
)
def test_files_that_never_end(name: str, harm: Callable[[Path], None], said: str, source: Path, target: Path) -> None:
    harm(source / name)
    with pytest.raises(RepositoryError, match=said):
        run(source, target)


def test_a_lock_that_leads_elsewhere(source: Path, target: Path, tmp_path: Path) -> None:
    (source / ".lock").unlink()
    (source / ".lock").symlink_to(tmp_path / "made")
    before = snapshot(target)
    with pytest.raises(RepositoryError, match="is a symlink"):
        run(source, target)
    assert not (tmp_path / "made").exists()
    assert snapshot(target) == before
