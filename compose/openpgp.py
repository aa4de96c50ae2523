"""The framing of OpenPGP data (RFC 9580), and who made a signature. What keys and signatures are worth others decide."""

from __future__ import annotations

from collections.abc import Iterator

_SIGNATURE = 2
_ISSUER_KEY_ID, _ISSUER_FINGERPRINT = 16, 33
_CRITICAL = 0x80


class BadPacketError(ValueError):
    """What should be a sequence of packets is none."""


def packets(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(type, body, whole packet) of each packet (RFC 9580 section 4.2). Raises BadPacketError."""
    position = 0
    while position < len(data):
        start = position
        first = data[position]
        position += 1
        if not first & 0x80:
            raise BadPacketError("it is not a sequence of OpenPGP packets")
        if first & 0x40:
            tag = first & 0x3F
            octet = int.from_bytes(data[position : position + 1], "big")
            position += 1
            if octet < 192:
                size = octet
            elif octet < 224:
                size = ((octet - 192) << 8) + int.from_bytes(data[position : position + 1], "big") + 192
                position += 1
            elif octet == 255:
                size = int.from_bytes(data[position : position + 4], "big")
                position += 4
            else:
                raise BadPacketError("it holds a packet of unknown length, which no key or signature has")
        else:
            tag = (first >> 2) & 0x0F
            width = {0: 1, 1: 2, 2: 4}.get(first & 3)
            if width is None:
                raise BadPacketError("it holds a packet of unknown length, which no key or signature has")
            size = int.from_bytes(data[position : position + width], "big")
            position += width
        if position + size > len(data):
            raise BadPacketError("it is cut off")
        yield tag, data[position : position + size], data[start : position + size]
        position += size


def issuers(signature: bytes) -> frozenset[bytes]:
    """Who made the signatures that a detached signature holds: fingerprint of each one's key, or key ID where it says no more.

    Nothing when one of them says neither, or is none.
    """
    try:
        found = [_issuer(body) if tag == _SIGNATURE else b"" for tag, body, _ in packets(signature)]
    except BadPacketError:
        return frozenset()
    return frozenset(found) if all(found) else frozenset()


def _issuer(body: bytes) -> bytes:
    """Of a signature packet: version, type, two algorithms, then what is signed of the subpackets and what is not, each
    behind its size (section 5.2.3)."""
    width = {4: 2, 5: 2, 6: 4}.get(body[0]) if body else None
    if width is None:
        return b""
    found: dict[int, bytes] = {}
    start = 4
    for _ in ("signed", "not signed"):
        size = int.from_bytes(body[start : start + width], "big")
        start += width
        for kind, value in _subpackets(body[start : start + size]):
            found.setdefault(kind & ~_CRITICAL, value)
        start += size
    # its first octet is the version of the key
    return found.get(_ISSUER_FINGERPRINT, b"")[1:] or found.get(_ISSUER_KEY_ID, b"")


def _subpackets(area: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each (section 5.2.3.7)."""
    position = 0
    while position < len(area):
        size = area[position]
        position += 1
        if size == 255:
            size = int.from_bytes(area[position : position + 4], "big")
            position += 4
        elif size >= 192:
            size = ((size - 192) << 8) + int.from_bytes(area[position : position + 1], "big") + 192
            position += 1
        if not size or position + size > len(area):
            return
        yield area[position], area[position + 1 : position + size]
        position += size
