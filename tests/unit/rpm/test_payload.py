from __future__ import annotations

import functools
import gzip
import hashlib
import lzma
import os
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import PackageError
from compose.rpm.header import read_header
from compose.rpm.payload import PayloadReader
from tests.support.rpmmaker import COMPRESSORS, STRING, RpmMaker


@pytest.fixture
def payload_of(tmp_path):
    def read(maker, piece=1 << 20):
        path = tmp_path / "some.rpm"
        path.write_bytes(maker.build())
        fd = os.open(path, os.O_RDONLY)
        try:
            reader = PayloadReader(fd, read_header(fd, "some.rpm"), "nasty")
            pieces = list(iter(lambda: reader.read(piece), b""))
            reader.finish()
        finally:
            os.close(fd)
        assert all(len(each) <= piece for each in pieces)
        return b"".join(pieces)

    return read


def containing(data, **changes):
    return RpmMaker(change_archive=lambda archive: data, **changes)


DATA = os.urandom(100_000) + bytes(1 << 20) + b"end"


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("piece", [1000, 1 << 20])
def test_every_compressor(payload_of, compressor, piece):
    assert payload_of(containing(DATA, compressor=compressor), piece) == DATA


@pytest.mark.parametrize("compressor", ["gzip", "bzip2", "xz", "zstd"])
def test_streams_one_behind_another(payload_of, compressor):
    compress = COMPRESSORS[compressor]
    maker = RpmMaker(compressor=compressor, change_payload=lambda payload: compress(b"first") + compress(b"second"))
    assert payload_of(maker) == b"firstsecond"


def test_an_unnamed_compressor_is_gzip_or_none(payload_of):
    assert payload_of(containing(b"data", compressor="gzip", tags={1125: None})) == b"data"
    assert payload_of(containing(b"data", compressor="", tags={1125: None})) == b"data"


def test_an_unknown_compressor_is_named(payload_of):
    with pytest.raises(PackageError, match="'rot13'"):
        payload_of(containing(b"data", tags={1125: (STRING, "rot13")}))


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_a_cut_stream_is_refused(payload_of, compressor):
    maker = containing(DATA, compressor=compressor, change_file=lambda file: file[:-1000])
    with pytest.raises(PackageError, match=r"nasty: its payload (cannot be decompressed|does not have the digest)"):
        payload_of(maker)


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_a_changed_byte_is_found(payload_of, compressor):
    def change(file):
        return file[:-5000] + bytes([file[-5000] ^ 1]) + file[-4999:]

    with pytest.raises(PackageError, match="nasty: its payload"):
        payload_of(containing(os.urandom(20_000), compressor=compressor, change_file=change))


@pytest.mark.parametrize("compressor", [name for name in COMPRESSORS if name])
def test_garbage_behind_the_stream_is_refused(payload_of, compressor):
    maker = containing(b"data", compressor=compressor, change_payload=lambda payload: payload + b"garbage garbage")
    with pytest.raises(PackageError, match="cannot be decompressed"):
        payload_of(maker)


def test_without_a_digest_in_the_header_none_is_checked(payload_of):
    assert payload_of(containing(b"data", tags={5092: None, 5093: None})) == b"data"


@pytest.mark.parametrize(("tag", "name"), [(5121, "sha512"), (5123, "sha3_256")])
def test_other_digests(payload_of, tag, name):
    good = hashlib.new(name, COMPRESSORS["zstd"](b"data")).hexdigest()
    payload_of(containing(b"data", tags={5092: None, 5093: None, tag: (STRING, good)}))
    with pytest.raises(PackageError, match="digest"):
        payload_of(containing(b"data", tags={5092: None, 5093: None, tag: (STRING, "0" * len(good))}))


def test_windows_that_would_eat_the_memory_are_refused(payload_of):
    # the encoder would need the memory too, so the dictionary size of a small stream is changed by hand
    small = lzma.compress(b"data", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}])
    # xz's block header, behind the stream header of 12 bytes: size, flags, filter id, length, dictionary size, CRC-32
    block = bytearray(small[12:24])
    assert block[2:4] == b"\x21\x01"
    block[4] = 36  # 1 GiB
    block[8:] = zlib.crc32(block[:8]).to_bytes(4, "little")
    with pytest.raises(PackageError, match="Memory"):
        payload_of(RpmMaker(compressor="xz", change_payload=lambda payload: small[:12] + bytes(block) + small[24:]))
    frame = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=30, strategy=1, hash_log=6, chain_log=6)
    ).compressobj()
    stream = frame.compress(b"data") + frame.flush()
    with pytest.raises(PackageError, match="memory"):
        payload_of(RpmMaker(change_payload=lambda payload: stream))


# as COMPRESSORS, but quicker
PACKERS = COMPRESSORS | {
    "gzip": functools.partial(gzip.compress, compresslevel=1),
    "xz": functools.partial(lzma.compress, preset=0),
}


@pytest.mark.parametrize("compressor", ["gzip", "bzip2", "xz", "zstd"])
def test_memory_is_bounded(tmp_path, compressor):
    bomb = PACKERS[compressor](bytes(24 << 20))
    path = tmp_path / "bomb.rpm"
    path.write_bytes(RpmMaker(compressor=compressor, change_payload=lambda payload: bomb).build())
    fd = os.open(path, os.O_RDONLY)
    try:
        reader = PayloadReader(fd, read_header(fd, "bomb.rpm"), "bomb")
        tracemalloc.start()
        while reader.read(1 << 20):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        os.close(fd)
    assert peak < 20 << 20


@given(noise=st.binary(max_size=300), compressor=st.sampled_from(sorted(COMPRESSORS)))
def test_noise_gives_package_errors(tmp_path_factory, noise, compressor):
    path = tmp_path_factory.mktemp("noise") / "noise.rpm"
    path.write_bytes(RpmMaker(compressor=compressor, change_payload=lambda payload: noise).build())
    fd = os.open(path, os.O_RDONLY)
    try:
        reader = PayloadReader(fd, read_header(fd, "noise.rpm"), "noise")
        while reader.read(1000):
            pass
        reader.finish()
    except PackageError:
        pass
    finally:
        os.close(fd)
