from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.rpm.pgp import BadKey, parse_keys

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
    (key,) = parse_keys(ED.encode())
    assert key.fingerprint == ED_FINGERPRINT
    assert key.key_ids[0] == ED_FINGERPRINT[-16:]
    assert key.user_id == "Ed <ed@example.com>"
    assert str(key) == f"{ED_FINGERPRINT[-16:]} Ed <ed@example.com>"


def test_text_around_blocks_and_several_blocks():
    keys = parse_keys(b"Our keys:\r\n" + ED.replace("\n", "\r\n").encode() + b"\nand\n" + ED.encode())
    assert [key.fingerprint for key in keys] == [ED_FINGERPRINT, ED_FINGERPRINT]


def test_binary_keys_are_armoured_as_gnupg_does():
    binary = dearmor(ED)
    (key,) = parse_keys(binary)
    assert key.armored.decode() == ED
    first, second = parse_keys(binary + binary)
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


@given(st.binary(max_size=200))
def test_any_bytes_give_keys_or_bad_key(data):
    for candidate in (data, b"\x98" + data, dearmor(ED)[: len(data)]):
        with suppress(BadKey):
            parse_keys(candidate)


def dearmor(text):
    lines = text.split("\n\n")[1].splitlines()
    return base64.b64decode("".join(line for line in lines if line[0] not in "=-"))
