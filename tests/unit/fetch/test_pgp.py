from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.events import Reporter
from compose.fetch.keys import load_keys
from compose.rpm.pgp import BadKey, parse_keys
from compose.rpm.repos import RepoAccess, RepoNetwork
from compose.solve.resolution import RepoSnapshot

# Made by GnuPG for this test: "Ed <ed@example.com>", an ed25519 key.
ED = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawRrIBYJKwYBBAHaRw8BAQdARL4gvLxISRScV5EduJfTSWeLN13T17qG6FIM
oev5XOu0E0VkIDxlZEBleGFtcGxlLmNvbT6IkAQTFgoAOBYhBC+x1caqG4CojuIg
G1tSyKUcefAIBQJrBGsgAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEFtS
yKUcefAIIEQA/inMpxpznlJN+6/6ynUgdwOurFcr1vcMdudyJQnCf2VGAPwMyPl6
naafA2EUATI/wUXEvIxhIkmVi3BdJnNbxG2+CA==
=dFvv
-----END PGP PUBLIC KEY BLOCK-----
"""
ED_FINGERPRINT = "2fb1d5c6aa1b80a88ee2201b5b52c8a51c79f008"


def test_name_and_ids_of_a_key():
    (key,) = parse_keys(ED.encode()).keys
    assert key.fingerprint == ED_FINGERPRINT
    assert key.key_ids[0] == ED_FINGERPRINT[-16:]
    assert key.user_id == "Ed <ed@example.com>"
    assert str(key) == f"{ED_FINGERPRINT[-16:]} Ed <ed@example.com>"


def test_text_around_blocks_and_several_blocks():
    keys = parse_keys(b"Our keys:\r\n" + ED.replace("\n", "\r\n").encode() + b"\nand\n" + ED.encode()).keys
    assert [key.fingerprint for key in keys] == [ED_FINGERPRINT, ED_FINGERPRINT]


def test_binary_keys_are_armoured_as_gnupg_does():
    binary = dearmor(ED)
    (key,) = parse_keys(binary).keys
    assert key.armored.decode() == ED
    first, second = parse_keys(binary + binary).keys
    assert first == second == key


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "no OpenPGP public key block"),
        (b"-----BEGIN CERTIFICATE-----", "no OpenPGP public key block"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!\n-----END PGP PUBLIC KEY BLOCK-----", "armour is damaged"),
        (b"\x98\xff\x04", "truncated"),
        (b"\xb4\x03abc", "not with a public key"),
        (b"\x98\x01\x03", "version 3"),
        (b"\x9b\x01\x03", "indeterminate length"),
        (b"\xc6\xe0\x03", "indeterminate length"),
    ],
)
def test_what_is_no_key_is_refused(data, fault):
    with pytest.raises(BadKey, match=fault):
        parse_keys(data)


# body of a key packet of version 3: created, valid for, RSA, two short numbers (RFC 4880 section 5.5.2)
V3 = b"\x03" + bytes(4) + bytes(2) + b"\x01" + b"\x00\x08\xff" + b"\x00\x08\x11"


@pytest.mark.parametrize("order", [1, -1])
def test_a_key_of_an_unsupported_version_is_skipped(order):
    old = bytes([0x98, len(V3)]) + V3 + b"\xb4\x03old"
    found = parse_keys(b"".join([old, dearmor(ED)][::order]))
    assert [key.fingerprint for key in found.keys] == [ED_FINGERPRINT]
    assert found.skipped == ("version 3 is not supported, only versions 4 and 6 are",)
    with pytest.raises(BadKey, match="version 3"):
        parse_keys(old + old)


def test_a_subkey_of_an_unsupported_version_is_skipped():
    subkey = bytes([0xB8, len(V3)]) + V3
    (key,) = parse_keys(dearmor(ED) + subkey).keys
    assert key.key_ids == (ED_FINGERPRINT[-16:],)


def test_the_warning_names_repository_and_file(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(bytes([0x98, len(V3)]) + V3 + dearmor(ED))
    repo = RepoSnapshot(id="tiny", gpgcheck=True, gpgkeys=(path.as_uri(),), timestamp=0)
    warnings = []

    class Log(Reporter):
        def warn(self, message):
            warnings.append(message)

    (key,) = load_keys(repo, RepoAccess(repo_dirs=(), basearch="x86_64"), RepoNetwork(cachedir=str(tmp_path)), Log())
    assert key.fingerprint == ED_FINGERPRINT
    assert warnings == [
        f"repository 'tiny': a key of gpgkey {path.as_uri()} is skipped: version 3 is not supported, only "
        "versions 4 and 6 are"
    ]


@given(st.binary(max_size=200))
def test_any_bytes_give_keys_or_bad_key(data):
    for candidate in (data, b"\x98" + data, dearmor(ED)[: len(data)]):
        with suppress(BadKey):
            parse_keys(candidate)


def dearmor(text):
    lines = text.split("\n\n")[1].splitlines()
    return base64.b64decode("".join(line for line in lines if line[0] not in "=-"))
