"""Files: what is written is whole, what is removed stays inside."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from compose import fs, syscalls
from compose.errors import StorageError

_HOLED = 8 << 20
"""Bytes of a file that is mostly hole."""


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    fs.atomic_write(str(target), b"one")
    fs.atomic_write(str(target), b"two", 0o600)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_atomic_write_below_an_open_directory(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    fs.atomic_write("file", b"content", dir_fd=directory)
    os.close(directory)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"content")]


@pytest.mark.parametrize("name", ["x" * 255, "\N{SNOWMAN}" * 85])
def test_the_longest_names_can_be_written(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    fs.check_place(str(target))
    fs.atomic_write(str(target), b"one")
    fs.copy_file(str(target), str(tmp_path / f"{name[1:]}y"))
    assert target.read_bytes() == b"one"


def test_atomic_write_names_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*/gone/file: No such file or directory"):
        fs.atomic_write(str(tmp_path / "gone" / "file"), b"one")


def test_atomic_write_into_a_full_disk_names_the_place() -> None:
    with pytest.raises(StorageError, match="cannot write /dev/full/x"), fs.storage_errors("/dev/full/x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_other_errors_pass() -> None:
    with pytest.raises(FileNotFoundError), fs.storage_errors("x"):
        raise FileNotFoundError(errno.ENOENT, "no")


def test_remove_tree_does_not_follow_symlinks(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "link").symlink_to(outside)
    (inside / "deep").chmod(0o555)
    fs.remove_tree(str(inside))
    assert not inside.exists()
    assert (outside / "kept").exists()
    fs.remove_tree(str(inside))


def test_remove_tree_of_directories_deeper_than_there_are_descriptors(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "/".join(["d"] * 300)).mkdir(parents=True)
    (top / "/".join(["d"] * 200) / "file").touch()
    before = os.listdir("/proc/self/fd")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) + 100, limits[1]))
    try:
        fs.remove_tree(str(top))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert os.listdir(tmp_path) == []
    assert os.listdir("/proc/self/fd") == before


def test_clone_or_copy(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(data)
    source = os.open(tmp_path / "a", os.O_RDONLY)
    target = os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)
    fs.clone_or_copy(source, target)
    os.close(source)
    os.close(target)
    assert (tmp_path / "b").read_bytes() == data


@pytest.mark.parametrize("refused", ["clone", "copy_file_range", "SEEK_DATA"])
@pytest.mark.parametrize("parts", [[], [(0, 9)], [(1 << 20, 1 << 20), (5 << 20, 1)], [(_HOLED - 5, 5)]])
def test_holes_stay_holes(
    refused: str, parts: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "refused")

    def lseek(fd: int, place: int, how: int) -> int:
        return refuse() if how == os.SEEK_DATA else real(fd, place, how)

    real = os.lseek
    monkeypatch.setattr(fs, "clone", refuse)
    if refused == "copy_file_range":
        monkeypatch.setattr(os, "copy_file_range", refuse)
    if refused == "SEEK_DATA":
        monkeypatch.setattr(os, "lseek", lseek)
    with (tmp_path / "a").open("wb") as file:
        for place, size in parts:
            file.seek(place)
            file.write(os.urandom(size))
        file.truncate(_HOLED)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("wb") as target:
        fs.clone_or_copy(source.fileno(), target.fileno())
    one, other = ((tmp_path / name).read_bytes() for name in "ab")
    assert one == other
    if refused != "SEEK_DATA":
        assert fs.holes((tmp_path / "b").stat()) > 5 << 20
    monkeypatch.setattr(fs, "_LARGE_HOLES", 1 << 20)
    with (tmp_path / "b").open("rb") as target:
        for offset in (0, 1, (1 << 20) + 7, 64 << 20, 65 << 20):
            assert b"".join(fs.chunks(target.fileno(), offset)) == one[offset:]


def test_exchange(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.write_text("other")
    syscalls.exchange(str(one), str(other))
    assert other.is_dir()
    assert one.read_text() == "other"
    with pytest.raises(FileNotFoundError):
        syscalls.exchange(str(one), str(tmp_path / "absent"))


def test_rename_noreplace(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    fd = os.open(tmp_path, os.O_RDONLY)
    assert not syscalls.rename_noreplace("a", "b", src_dir_fd=fd, dst_dir_fd=fd)
    assert syscalls.rename_noreplace("a", "c", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


@pytest.mark.parametrize("place", ["", "directory", "pipe", "missing/file", "x" * 256])
def test_places_that_no_file_can_be_written_to(place: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="cannot write"):
        fs.check_place(str(tmp_path / place) if place else "")
    assert sorted(os.listdir(tmp_path)) == ["directory", "pipe"]
    fs.check_place(str(tmp_path / "new"))


def test_places_that_no_directory_can_be_made_at(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/new"):
        with pytest.raises(StorageError, match=f"cannot write .*{place}: Not a directory"):
            fs.check_directory(str(tmp_path / place))
    fs.check_directory(str(tmp_path))
    fs.check_directory(str(tmp_path / "new/and/newer"))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "number"),
    [("directory", errno.EISDIR), ("pipe", errno.EINVAL), ("zero", errno.EINVAL), ("missing", errno.ENOENT)],
)
def test_only_regular_files_are_opened(name: str, number: int, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError) as caught:
        fs.open_regular(str(tmp_path / name))
    assert caught.value.errno == number
    assert os.listdir("/proc/self/fd") == before
    with fs.open_regular(str(tmp_path / "link")) as file:
        assert file.read() == b"content"
    with pytest.raises(OSError) as caught:
        fs.open_regular(str(tmp_path / "link"), follow_symlinks=False)
    assert caught.value.errno == errno.ELOOP
