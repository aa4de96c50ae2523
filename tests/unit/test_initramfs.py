"""Initramfs images that nobody should have made."""

from __future__ import annotations

import gzip
import lzma
import time
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard

from compose import initramfs
from tests.support.rpmmaker import newc_entry

ARCHIVE = newc_entry(b"./usr/a", 0o100644, b"1") + newc_entry(b"TRAILER!!!", 0, b"")
COMPRESS: list[Callable[[bytes], bytes]] = [
    gzip.compress,
    lzma.compress,
    lambda data: zstandard.ZstdCompressor().compress(data),
]


@pytest.mark.parametrize("compress", COMPRESS)
def test_archives_follow_each_other(compress: Callable[[bytes], bytes]) -> None:
    large = newc_entry(b"usr/b", 0o100644, bytes(range(256)) * 99) + ARCHIVE
    image = ARCHIVE + bytes(512) + compress(large + bytes(4) + ARCHIVE) + bytes(3) + compress(ARCHIVE)
    assert list(initramfs.files(image)) == ["usr/a", "usr/b", "usr/a", "usr/a", "usr/a"]


@pytest.mark.parametrize("compress", COMPRESS)
def test_what_is_too_large_or_cut_off_or_nested(
    compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initramfs, "_MAX_SIZE", 1 << 20)
    with pytest.raises(ValueError, match="more than 1048576 bytes"):
        list(initramfs.files(compress(bytes(4 << 20))))
    with pytest.raises(ValueError):
        list(initramfs.files(compress(ARCHIVE)[:-5]))
    # the kernel does not look into an archive for another one
    with pytest.raises(ValueError):
        list(initramfs.files(compress(compress(ARCHIVE))))


@pytest.mark.parametrize("compress", COMPRESS)
def test_memory_does_not_grow_with_what_is_packed(compress: Callable[[bytes], bytes]) -> None:
    image = compress(newc_entry(b"usr/b", 0o100644, bytes(128 << 20)) + ARCHIVE)
    tracemalloc.start()
    try:
        assert list(initramfs.files(image)) == ["usr/b", "usr/a"]
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


def test_no_name_is_read_that_the_kernel_would_not() -> None:
    with pytest.raises(ValueError, match="name that is too long"):
        list(initramfs.files(newc_entry(b"a" * 4096, 0o100644, b"")))


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress])
def test_time_grows_with_the_number_of_archives(compress: Callable[[bytes], bytes]) -> None:
    count = 20_000
    image = compress(newc_entry(b"TRAILER!!!", 0, b"")) * count + ARCHIVE
    begun = time.process_time()
    assert list(initramfs.files(image)) == ["usr/a"]
    assert time.process_time() - begun < 2
