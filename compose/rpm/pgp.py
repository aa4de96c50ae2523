"""Reader of OpenPGP key files (RFC 4880, RFC 9580): splits them into keys in the form that librpm takes.

Only the packet framing is parsed, to tell keys apart and to name them in messages; librpm decides which are valid.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from compose import openpgp

_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n(?P<body>.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL
)
_PUBLIC_KEY, _USER_ID, _PUBLIC_SUBKEY = 6, 13, 14
_CRC24_INIT, _CRC24_POLY = 0xB704CE, 0x1864CFB


class BadKey(ValueError):
    """A file is not an OpenPGP key file."""


class _Unsupported(BadKey):
    """A key is of a version that has no place in RPM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """One certificate. fingerprint: of the primary key. key_ids: of it and its subkeys, 16 hex digits each.
    user_id: the first one, "" for none. armored: the whole certificate in ASCII armour."""

    fingerprint: str
    key_ids: tuple[str, ...]
    user_id: str
    armored: bytes

    def __str__(self) -> str:
        return f"{self.key_ids[0]} {self.user_id}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """keys: at least one. skipped: why, for each certificate whose key has an unsupported version."""

    keys: tuple[PublicKey, ...]
    skipped: tuple[str, ...]


def parse_keys(data: bytes) -> KeyFile:
    """Return all certificates of a key file, binary or armoured (several blocks, text around them).

    Raises BadKey for what is no key file, and for one without any key of a supported version.
    """
    blocks = [_dearmor(match["body"]) for match in _ARMOR.finditer(data)]
    if not blocks:
        if not data or not data[0] & 0x80:
            raise BadKey("it holds no OpenPGP public key block")
        blocks = [data]
    keys: list[PublicKey] = []
    skipped: list[str] = []
    for packets in itertools.chain.from_iterable(map(_certificates, blocks)):
        try:
            keys.append(_certificate(packets))
        except _Unsupported as error:
            skipped.append(str(error))
    if not keys:
        raise BadKey(f"its keys are unusable: {skipped[0]}" if skipped else "it holds no OpenPGP public key")
    return KeyFile(keys=tuple(keys), skipped=tuple(skipped))


def _certificates(data: bytes) -> Iterator[list[tuple[int, bytes, bytes]]]:
    try:
        found = tuple(openpgp.packets(data))
    except openpgp.BadPacketError as error:
        raise BadKey(str(error)) from error
    packets: list[tuple[int, bytes, bytes]] = []
    for packet in found:
        if packet[0] == _PUBLIC_KEY and packets:
            yield packets
            packets = []
        packets.append(packet)
    if packets:
        yield packets


def _certificate(packets: list[tuple[int, bytes, bytes]]) -> PublicKey:
    if packets[0][0] != _PUBLIC_KEY:
        raise BadKey(f"it begins with an OpenPGP packet of type {packets[0][0]}, not with a public key")
    identities = [_identity(packets[0][1])]
    for tag, body, _ in packets[1:]:
        # librpm ignores such subkeys too
        with suppress(_Unsupported):
            identities += [_identity(body)] if tag == _PUBLIC_SUBKEY else []
    users = [body.decode(errors="replace") for tag, body, _ in packets if tag == _USER_ID]
    return PublicKey(
        fingerprint=identities[0][0],
        key_ids=tuple(key_id for _, key_id in identities),
        user_id=users[0] if users else "",
        armored=_armor(b"".join(raw for _, _, raw in packets)),
    )


def _identity(body: bytes) -> tuple[str, str]:
    """Return fingerprint and key ID of a key packet (RFC 9580 section 5.5.4)."""
    match body[:1]:
        case b"\x04":
            digest = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest()
            return digest, digest[-16:]
        case b"\x06":
            digest = hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest()
            return digest, digest[:16]
    raise _Unsupported(f"version {body[0] if body else 'none'} is not supported, only versions 4 and 6 are")


def _dearmor(block: bytes) -> bytes:
    lines = [line.strip() for line in block.splitlines()]
    # header lines ("Version: ...") end with an empty line; the line that begins with "=" is the checksum
    body = lines[lines.index(b"") + 1 :] if b"" in lines else lines
    encoded = b"".join(line for line in body if not line.startswith(b"="))
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise BadKey("its armour is damaged") from error


def _armor(data: bytes) -> bytes:
    crc = _CRC24_INIT
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= _CRC24_POLY
    encoded = base64.b64encode(data)
    lines = [encoded[index : index + 64] for index in range(0, len(encoded), 64)]
    checksum = b"=" + base64.b64encode(crc.to_bytes(3, "big"))
    return b"\n".join(
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"", *lines, checksum, b"-----END PGP PUBLIC KEY BLOCK-----", b"")
    )
