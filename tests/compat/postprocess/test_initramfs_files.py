"""Listing the files in an initramfs made by the real cpio and compressors."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from compose import initramfs
from compose.postprocess.initramfs import device_nodes

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def archive(top: Path, *paths: str) -> bytes:
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text("x" * len(path))
    (top / "link").symlink_to("nowhere")
    listed = "\n".join([".", *sorted(str(path.relative_to(top)) for path in top.rglob("*"))]) + "\n"
    command = ["cpio", "--create", "--format=newc", "--quiet"]
    return subprocess.run(command, input=listed.encode(), stdout=subprocess.PIPE, check=True, cwd=top).stdout


@pytest.mark.parametrize("how", PACKERS)
def test_archives_one_after_the_other(how: str, tmp_path: Path) -> None:
    (tmp_path / "early").mkdir()
    early = archive(tmp_path / "early", "kernel/x86/microcode/GenuineIntel.bin")
    (tmp_path / "late").mkdir()
    late = archive(tmp_path / "late", "usr/bin/sh", "etc/passwd", "usr/lib/grün", "abc")
    image = early + PACKERS[how](late) + bytes(7) + device_nodes()
    expected = ["kernel/x86/microcode/GenuineIntel.bin", "link"]
    expected += ["abc", "etc/passwd", "link", "usr/bin/sh", "usr/lib/grün"]
    assert list(initramfs.files(image)) == expected


@pytest.mark.parametrize("change", [lambda data: data[:300], lambda data: b"x" + data, bz2.compress, lambda _: b"0707"])
def test_what_is_none(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="archive"):
        list(initramfs.files(change(archive(tmp_path, "a", "b", "c"))))


def test_a_header_with_a_negative_size(tmp_path: Path) -> None:
    data = bytearray(archive(tmp_path, "a"))
    # ends where it begins
    data[54:62] = b"-0000100"
    with pytest.raises(ValueError, match="damaged header"):
        list(initramfs.files(bytes(data)))


def test_damaged_compression(tmp_path: Path) -> None:
    data = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(archive(tmp_path, "a")))
    data[-6] ^= 0xFF
    with pytest.raises(ValueError, match=r"."):
        list(initramfs.files(bytes(data)))
