"""Parse OpenPGP packets (RFC 9580), and find who made a signature. Nothing is verified here."""

from __future__ import annotations

from collections.abc import Iterator

_SIGNATURE = 2
_ISSUER_KEY_ID, _ISSUER_FINGERPRINT = 16, 33
_CRITICAL = 0x80


class BadPacketError(ValueError):
    """The data is not a sequence of OpenPGP packets."""


def packets(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (type, body, whole packet) of each packet (RFC 9580, section 4.2). Raises BadPacketError."""
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
                raise BadPacketError("it has a packet of indeterminate length, which keys and signatures never have")
        else:
            tag = (first >> 2) & 0x0F
            width = {0: 1, 1: 2, 2: 4}.get(first & 3)
            if width is None:
                raise BadPacketError("it has a packet of indeterminate length, which keys and signatures never have")
            size = int.from_bytes(data[position : position + width], "big")
            position += width
        if position + size > len(data):
            raise BadPacketError("it is truncated")
        yield tag, data[position : position + size], data[start : position + size]
        position += size


def issuers(signature: bytes) -> frozenset[bytes]:
    """Return the issuers of the signatures in a detached signature: fingerprints, or key IDs where there is no fingerprint.

    Empty if a signature has neither, or if one of the packets is not a signature.
    """
    try:
        found = [_issuer(body) if tag == _SIGNATURE else b"" for tag, body, _ in packets(signature)]
    except BadPacketError:
        return frozenset()
    return frozenset(found) if all(found) else frozenset()


def _issuer(body: bytes) -> bytes:
    """Return the issuer in a signature packet, b"" if there is none.

    Version, type and two algorithms are followed by the hashed and the unhashed subpackets, each preceded by their size
    (section 5.2.3).
    """
    width = {4: 2, 5: 2, 6: 4}.get(body[0]) if body else None
    if width is None:
        return b""
    found: dict[int, bytes] = {}
    start = 4
    for _ in ("hashed", "unhashed"):
        size = int.from_bytes(body[start : start + width], "big")
        start += width
        for kind, value in _subpackets(body[start : start + size]):
            found.setdefault(kind & ~_CRITICAL, value)
        start += size
    # the fingerprint is preceded by the version of the key
    return found.get(_ISSUER_FINGERPRINT, b"")[1:] or found.get(_ISSUER_KEY_ID, b"")


def _subpackets(area: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, value) of each subpacket (section 5.2.3.7)."""
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
