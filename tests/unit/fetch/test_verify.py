from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import FetchError, PackageError, StorageError, TrustError
from compose.events import Reporter
from compose.fetch.verify import File, Job, verify
from compose.rpm.nevra import Nevra
from compose.rpm.signature import Keyring, check_unsigned, read_layout
from compose.solve.resolution import Reason, ResolvedPackage
from tests.support.rpmmaker import BINARY, Member, RpmMaker

HELLO = RpmMaker(members=[Member("/usr/share/hello", b"hello")])
DATA = HELLO.build()


@contextmanager
def opened(data):
    fd = os.memfd_create("rpm")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def described(data):
    return ResolvedPackage(
        nevra=Nevra(name="nasty", epoch=0, version="1.0", release="1", arch="noarch"),
        repo="r",
        location="x.rpm",
        checksum=("sha256", hashlib.sha256(data).hexdigest()),
        download_size=len(data),
        install_size=0,
        source_rpm="",
        reason=Reason.REQUESTED,
    )


def judge(tmp_path, data, *, keys=None, **package):
    """The verdict on a file that the repository describes rightly, unless package says otherwise."""
    path = tmp_path / "x.rpm"
    path.write_bytes(data)
    file = File(package=replace(described(data), **package), path=str(path))
    (verdict,) = verify(Job(files=(file,), keys=(("r", keys),), jobs=1), Reporter())
    return verdict


def test_a_good_file_of_a_repository_without_gpgcheck(tmp_path):
    verdict = judge(tmp_path, DATA)
    assert (verdict.fault, verdict.key, verdict.sha256) == (None, "", hashlib.sha256(DATA).hexdigest())


@pytest.mark.parametrize(
    ("algorithm", "name"), [("sha512", "sha512"), ("sha384", "sha384"), ("sha1", "sha1"), ("sha1", "sha")]
)
def test_checksums_of_repodata(tmp_path, algorithm, name):
    digest = hashlib.new(algorithm, DATA).hexdigest()
    assert judge(tmp_path, DATA, checksum=(name, digest)).sha256 == hashlib.sha256(DATA).hexdigest()
    assert isinstance(judge(tmp_path, DATA, checksum=(name, "0" * len(digest))).fault, FetchError)


@pytest.mark.parametrize("algorithm", ["crc32", "shake_128"])
def test_an_unknown_checksum(tmp_path, algorithm):
    assert algorithm in judge(tmp_path, DATA, checksum=(algorithm, "00")).fault.message


def test_a_wrong_size_or_digest_is_for_another_download_to_heal(tmp_path):
    assert isinstance(judge(tmp_path, DATA, download_size=7).fault, FetchError)
    assert isinstance(judge(tmp_path, DATA[:-1], checksum=("sha256", "0" * 64)).fault, FetchError)
    assert isinstance(judge(tmp_path, b"<html>", checksum=("sha256", "0" * 64)).fault, FetchError)


def test_a_file_that_the_disk_cannot_read():
    # reading it at offset 0 gives EIO
    file = File(package=described(b""), path="/proc/self/mem")
    with pytest.raises(StorageError, match="cannot read /proc/self/mem: Input/output error"):
        verify(Job(files=(file,), keys=(("r", None),), jobs=1), Reporter())


def test_what_is_no_rpm_in_the_repository_itself_is_not(tmp_path):
    fault = judge(tmp_path, b"<html>").fault
    assert isinstance(fault, PackageError)
    assert "is not an RPM" in fault.message


def test_a_payload_that_is_not_the_headers(tmp_path):
    tampered = replace(HELLO, change_file=lambda data: data[:-1] + bytes([data[-1] ^ 1])).build()
    fault = judge(tmp_path, tampered).fault
    assert isinstance(fault, PackageError)
    assert "payload" in fault.message


def test_another_package_than_the_metadata_says(tmp_path):
    fault = judge(tmp_path, replace(HELLO, name="sudo").build()).fault
    assert isinstance(fault, TrustError)
    assert "sudo-1.0-1.noarch" in fault.message


def test_an_unsigned_package(tmp_path):
    fault = judge(tmp_path, DATA, keys=()).fault
    assert isinstance(fault, TrustError)
    assert "not signed" in fault.message


@pytest.mark.parametrize("tag", [267, 268, 278])
def test_a_signature_in_the_wrong_place_is_none(tmp_path, tag):
    """librpm merges the signature section into the header: a tag in the header proper would look like a signature."""
    forged = replace(HELLO, tags={tag: (BINARY, b"\x88\x75\x04\x00" + bytes(100))}).build()
    assert isinstance(judge(tmp_path, forged, keys=()).fault, TrustError)


def test_where_the_payload_begins():
    with opened(DATA) as fd:
        layout = read_layout(fd, "x")
        assert not layout.signed
        expected = check_unsigned(fd, "x").payload_digest
    assert expected == ("sha256", hashlib.sha256(DATA[layout.payload_offset :]).hexdigest())


@given(st.integers(0, len(DATA) - 1), st.integers(0, 255), st.booleans())
def test_damage_is_never_more_than_an_error(position, value, cut):
    data = bytearray(DATA)
    data[position] = value
    with opened(data[:position] if cut else data) as fd, suppress(PackageError, TrustError):
        Keyring(()).check(fd, "x", replace(read_layout(fd, "x"), signed=True))
