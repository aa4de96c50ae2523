"""Who made a signature, of the framing alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.openpgp import issuers
from compose.ostree.gvariant import Variant
from compose.ostree.sign import GPG_SIGNATURES, joined

ONE, OTHER = bytes(range(20)), bytes(range(20, 40))


def subpacket(kind: int, value: bytes) -> bytes:
    return bytes([1 + len(value), kind]) + value


def signature(signed: bytes, rest: bytes = b"", *, version: int = 4, old: bool = True) -> bytes:
    width = 4 if version == 6 else 2
    areas = b"".join(len(each).to_bytes(width, "big") + each for each in (signed, rest))
    body = bytes([version, 0, 22, 10]) + areas + b"checksum and numbers"
    return (bytes([0x88, len(body)]) if old else bytes([0xC2, len(body)])) + body


def by(fingerprint: bytes, version: int = 4) -> bytes:
    return signature(subpacket(2, b"time") + subpacket(33, bytes([version]) + fingerprint), version=version)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (by(ONE), {ONE}),
        (by(ONE * 2, version=6), {ONE * 2}),
        (signature(subpacket(33 | 0x80, b"\4" + ONE), subpacket(16, b"x" * 8), old=False), {ONE}),
        (signature(subpacket(2, b"time"), subpacket(16, b"x" * 8)), {b"x" * 8}),
        (by(ONE) + by(OTHER), {ONE, OTHER}),
        # somebody who does not say who they are is nobody's earlier self
        (by(ONE) + signature(b""), set()),
        (signature(b"", version=3), set()),
        (by(ONE)[:-1], set()),
        (b"", set()),
        (b"\x88\0", set()),
        (b"text", set()),
    ],
)
def test_issuers(data: bytes, expected: set[bytes]) -> None:
    assert issuers(data) == expected


@given(st.binary())
def test_whatever_is_beside_a_commit(data: bytes) -> None:
    issuers(data)
    issuers(signature(data[:90]))


def test_a_key_has_one_signature() -> None:
    earlier, later = by(ONE), by(ONE)[:-1] + b"!"
    nobody = signature(b"")
    two = by(ONE) + by(OTHER)
    present = ((GPG_SIGNATURES, Variant("aay", [earlier, by(OTHER), nobody, two])), ("z", Variant("s", "kept")))
    assert joined(present, (("a", Variant("s", "new")),), [(GPG_SIGNATURES, later)]) == (
        ("a", Variant("s", "new")),
        (GPG_SIGNATURES, Variant("aay", [by(OTHER), nobody, two, later])),
        ("z", Variant("s", "kept")),
    )
    assert joined(present, (), []) == present
