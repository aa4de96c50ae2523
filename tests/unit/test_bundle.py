"""The bundle's format: what goes in comes out, the same bytes each time, and nothing else is read."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compose import bundle
from compose.bundle import INDEX, Source, unpack, write
from compose.errors import ComposeError, FetchError, StorageError, UsageError
from compose.pipeline import bundling

FILES = {
    "treefile/a.yaml": Source(data=b"packages: [bash]\n"),
    "treefile/last.sh": Source(data=b"#!/bin/sh\n", mode=0o755),
    "rpms/" + "x" * 120 + "/grüße.rpm": Source(data=b"r" * 5000),
    "empty": Source(data=b""),
}


def made(files: dict[str, Source] | None = None) -> bytes:
    stream = io.BytesIO()
    write(stream, FILES if files is None else files, {"treefile": "treefile/a.yaml"})
    return stream.getvalue()


def unpacked(data: bytes, directory: Path) -> Any:
    return unpack(io.BytesIO(data), "x.tar", str(directory))


def test_a_killed_run_leaves_nothing_for_long(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    program = (
        "import os, signal; from compose import bundle; from compose.pipeline.bundling import _write; "
        f"bundle.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL); _write({str(path)!r}, {{}}, {{}})"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path)
    bundling._write(str(path), {"a": Source(data=b"x")}, {})
    assert os.listdir(tmp_path) == ["b.tar"]


def test_a_round_trip(tmp_path: Path) -> None:
    index = unpacked(made(), tmp_path)
    assert index.facts == {"treefile": "treefile/a.yaml"}
    assert [each.path for each in index.members] == sorted(FILES)
    assert index.names("treefile") == ("treefile/a.yaml", "treefile/last.sh")
    for path, source in FILES.items():
        assert (tmp_path / path).read_bytes() == source.data
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == source.mode


def test_the_same_bytes_from_files_and_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(FILES["empty"].data or b"")
    os.utime(tmp_path / "r", (1, 1))
    other = dict(reversed([*FILES.items()])) | {"empty": Source(path=str(tmp_path / "r"))}
    assert made(other) == made()


def test_a_tar_that_others_read(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(made())) as tar:
        assert tar.getnames() == [INDEX, *sorted(FILES)]
        tar.extractall(tmp_path, filter="data")
    assert (tmp_path / "treefile/a.yaml").read_bytes() == FILES["treefile/a.yaml"].data


@pytest.mark.parametrize(
    "path", ["/etc/x", "../x", "a/../x", "a//x", "", ".", "a/", INDEX, "a\0b", "\ud800", "a/" * 1500 + "b"]
)
def test_names_that_have_no_place(path: str) -> None:
    with pytest.raises(UsageError, match="is not a valid path"):
        made({path: Source(data=b"")})


def changed_index(change: Callable[[dict[str, Any]], object], names: Callable[[str], str] = str) -> bytes:
    """A bundle whose index says something else; headers follow it, as one who attacks would make them."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(made())) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for info in old:
            file = old.extractfile(info)
            assert file is not None
            data = file.read()
            info.pax_headers = {}
            if info.name == INDEX:
                document = json.loads(data)
                change(document)
                data = json.dumps(document).encode()
                info.size = len(data)
            else:
                info.name = names(info.name)
            new.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("fault", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("place", ["opening", "hashing", "copying"])
def test_the_error_names_the_source_that_cannot_be_read(
    place: str, fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the bundle, which can be written."""
    source = tmp_path / "source.rpm"
    source.write_bytes(b"r")
    error = OSError(fault, os.strerror(fault))

    class Failing(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise error

    opened: list[str] = []

    def faulty(path: str, mode: str = "r") -> io.IOBase:
        if path != str(source):
            return open(path, mode)
        opened.append(path)
        if place == "opening":
            raise error
        return Failing(path) if place == "copying" and len(opened) == 2 else open(path, mode)

    def failing_digest(*_: object) -> object:
        raise error

    monkeypatch.setattr(bundle, "open", faulty, raising=False)
    if place == "hashing":
        monkeypatch.setattr(hashlib, "file_digest", failing_digest)
    with pytest.raises(StorageError, match=rf"^cannot read {source}: ") as caught:
        bundling._write(str(tmp_path / "x.tar"), {"rpms/source.rpm": Source(path=str(source))}, {})
    assert bool(caught.value.hint) is (fault == errno.EIO)
    assert os.listdir(tmp_path) == ["source.rpm"]


@pytest.mark.parametrize("content", [b"new", b"longer", b""])
def test_a_file_that_changes_meanwhile(content: bytes, tmp_path: Path) -> None:
    class Changing(io.BytesIO):
        def write(self, data: Any, /) -> int:
            (tmp_path / "a").write_bytes(content)
            return super().write(data)

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(StorageError, match=f"{tmp_path}/a changed while it was read"):
        write(Changing(), {"a": Source(path=str(tmp_path / "a"))}, {})


def test_the_error_names_the_bundle_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "source.rpm").write_bytes(b"r" * (1 << 20))
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb") as stream:
        write(stream, {"rpms/source.rpm": Source(path=str(tmp_path / "source.rpm"))}, {})


def first(document: dict[str, Any], **changes: Any) -> None:
    document["files"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: first(index, path="../escape"), "is not a path below it"),
        (lambda index: first(index, path="/etc/escape"), "is not a path below it"),
        (lambda index: first(index, path="a\0b"), "is not a path below it"),
        (lambda index: first(index, path="a\ud800"), "is not a path below it"),
        (lambda index: first(index, path="a/" * 1500 + "b"), "is not a path below it"),
        (lambda index: first(index, size=-1), "invalid mode, size or digest"),
        (lambda index: first(index, size=1.5), "invalid mode, size or digest"),
        (lambda index: first(index, size=True), "invalid mode, size or digest"),
        (lambda index: first(index, mode=0o120777), "invalid mode, size or digest"),
        (lambda index: first(index, sha256="0"), "invalid mode, size or digest"),
        (lambda index: first(index, path=5), "is damaged"),
        (lambda index: first(index, more=1), "is damaged"),
        (lambda index: index["files"].reverse(), "not sorted"),
        (lambda index: index["files"].append(index["files"][-1]), "not sorted"),
        (lambda index: index.update({"compose-bundle": 2}), "another version"),
        (lambda index: index.pop("files"), "is damaged"),
        (lambda index: index.update({"files": None}), "is damaged"),
        (lambda index: first(index, sha256="0" * 64), "empty is damaged"),
        (lambda index: first(index, mode=0o4755), "does not match the index"),
        # possible, but not the size of this one
        (lambda index: first(index, size=9 << 30), "does not match the index"),
        (lambda index: first(index, path="emptier"), "does not match the index"),
        (lambda index: index["files"].pop(), "data after its last file"),
        (lambda index: index["files"].append({**index["files"][-1], "path": "zzz"}), "does not match the index|truncated"),
    ],
)  # fmt: skip
def test_an_index_that_lies(change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(FetchError, match=message):
        unpacked(changed_index(change), inside)
    assert os.listdir(tmp_path) == ["inside"]


def with_member(info: tarfile.TarInfo, data: bytes = b"") -> bytes:
    """A bundle in which the first file's place is taken by another kind of thing."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(made())) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for number, each in enumerate(old):
            file = old.extractfile(each)
            assert file is not None
            each.pax_headers = {}
            new.addfile(info if number == 1 else each, io.BytesIO(data if number == 1 else file.read()))
    return out.getvalue()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_devices(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("empty")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(FetchError, match="does not match the index"):
        unpacked(with_member(info), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_file_and_a_directory_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="a/b is both a file and a directory"):
        unpacked(made({"a": Source(data=b"x"), "a/b": Source(data=b"y")}), tmp_path)


def test_cut_short_at_any_place(tmp_path: Path) -> None:
    data = made()
    for length in range(0, len(data), 397):
        directory = tmp_path / str(length)
        directory.mkdir()
        if length >= len(data) - 1024:
            break
        with pytest.raises(FetchError):
            unpacked(data[:length], directory)


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    data = made()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        # the index, in clear text, has no digest of its own
        begin = tar.getmembers()[1].offset
    for position in range(begin, len(data), 251):
        directory = tmp_path / str(position)
        directory.mkdir()
        other = bytearray(data)
        other[position] ^= 0x20
        with pytest.raises(ComposeError):
            unpacked(bytes(other), directory)


def test_a_name_that_tar_cannot_hold(tmp_path: Path) -> None:
    """pax holds every name."""
    name = "d/" * 120 + "n" * 200
    assert unpacked(made({name: Source(data=b"x")}), tmp_path).members[0].path == name
