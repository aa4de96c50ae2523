"""Is this RPM signed by one of these keys? librpm says, with a keyring that holds nothing else.

An RPM's signature covers its header; the header carries the payload's digest (rpm's docs/manual/format_v4.md and
signatures_digests.md). So: signature by a key of the repository, then the digest of the payload.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rpm

from compose.errors import PackageError, TrustError
from compose.rpm.header import load_header
from compose.rpm.nevra import Nevra
from compose.rpm.pgp import PublicKey

_LEAD = struct.Struct(">4s92x")
_LEAD_MAGIC = b"\xed\xab\xee\xdb"
_INTRO = struct.Struct(">8sII")
_INTRO_MAGIC = b"\x8e\xad\xe8\x01\x00\x00\x00\x00"
_ENTRY = struct.Struct(">IIII")
# rpm's own limits (HEADER_TAGS_MAX, HEADER_DATA_MAX)
_MAX_ENTRIES = 0xFFFF
_MAX_DATA = 256 << 20
# RPMSIGTAG_DSA, RPMSIGTAG_RSA, RPMSIGTAG_OPENPGP: signatures over the header
_SIGNATURE_TAGS = frozenset({267, 268, 278})
# RPMTAG_PAYLOADSHA256, PAYLOADSHA512, PAYLOADSHA3_256: by number, for RPM 4 knows the first by another name
_PAYLOAD_TAGS = ((5092, "sha256"), (5121, "sha512"), (5123, "sha3_256"))
_KEY_ID = re.compile(r"Key (?:ID|Fingerprint):? ([0-9a-fA-F]{16,64})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the parts of an RPM file lie. payload_offset: bytes from the beginning; signed: its signature section has a
    signature over the header."""

    payload_offset: int
    signed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What librpm found good. key: ID of the key, 16 hex digits, "" when no signature was asked for.
    payload_digest: (hashlib name, hex) that the header has for the payload as it lies in the file, None for none."""

    nevra: Nevra
    key: str
    payload_digest: tuple[str, str] | None


class Keyring:
    """The keys that may sign, for librpm. Not for use by two threads at a time.

    keys: those it takes; unusable: those it does not understand.
    """

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        self.keys: list[PublicKey] = []
        self.unusable: list[PublicKey] = []
        self._ring = rpm.keyring()
        for key in keys:
            # a file may hold keys for later, of an algorithm that this librpm does not know
            try:
                self._ring.addKey(rpm.pubkey(key.armored))
            except (rpm.error, ValueError):
                self.unusable.append(key)
            else:
                self.keys.append(key)
        self._transaction = rpm.TransactionSet()
        # everything is checked, whatever this machine's rpm configuration says
        self._transaction.setVSFlags(0)
        self._transaction.setKeyring(self._ring)

    def check(self, fd: int, name: str, layout: Layout) -> Checked:
        """The RPM open at fd is signed by one of the keys. name: what messages call the file.

        Raises TrustError: unsigned, signed by another key, by one that is revoked or was not valid, signature wrong.
        """
        if not layout.signed:
            raise TrustError(f"{name} is not signed", hint=_UNSIGNED_HINT)
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            header = self._transaction.hdrFromFdno(fd)
        except rpm.error as error:
            raise self._refused(fd, name, str(error)) from error
        signers = _signers(header)
        known = {key_id for key in self.keys for key_id in key.key_ids}
        by = next((signer for signer in signers if signer in known), None)
        if by is None:
            # librpm took a signature whose key it does not name: not to be understood, so not to be trusted
            raise TrustError(f"{name}: librpm {rpm.__version__} does not say which key signed it", hint=_FORMAT_HINT)
        return _checked(header, by)

    def _refused(self, fd: int, name: str, reason: str) -> TrustError:
        try:
            signers = _signers(load_header(fd))
        except rpm.error:
            return TrustError(f"{name}: its header is damaged or its signature is wrong", hint=_BROKEN_HINT)
        by = " and ".join(signers) or "an unnamed key"
        offered = ", ".join(
            [*map(str, self.keys), *(f"{key} (of a kind that this librpm does not know)" for key in self.unusable)]
        )
        known = {key_id for key in self.keys for key_id in key.key_ids}
        if "not available" in reason:
            missing = [signer for signer in signers if signer not in known] or list(signers)
            return TrustError(
                f"{name} is signed by {by}; the repository's keys are: {offered}",
                hint=f"if you trust {' and '.join(missing)}, add its key file to gpgkey= of the repository",
            )
        if "not trusted" in reason:
            return TrustError(
                f"{name} is signed by {by}, which is revoked, expired or otherwise not valid",
                hint="get the repository's current key for gpgkey=, or packages signed anew",
            )
        return TrustError(f"{name}: the signature by {by} is wrong: {reason}", hint=_BROKEN_HINT)


_UNSIGNED_HINT = "sign it (rpmsign --addsign), or set gpgcheck=0 for its repository if nobody can tamper with it"
_FORMAT_HINT = "librpm 4 does not read signatures of packages in RPM 6's format: compose where librpm 6 is"
_BROKEN_HINT = "the file was changed after it was signed: do not use it, and tell whoever runs the repository"


def check_unsigned(fd: int, name: str) -> Checked:
    """For a repository with gpgcheck=0: librpm reads the header and checks its digests. Raises PackageError."""
    try:
        header = load_header(fd)
    except rpm.error as error:
        raise PackageError(f"{name}: its header is damaged: {error}") from error
    return _checked(header, "")


def read_layout(fd: int, name: str) -> Layout:
    """Find the parts of the RPM file open at fd. Raises PackageError for what is none, or is cut off."""
    size = os.fstat(fd).st_size
    lead = os.pread(fd, _LEAD.size, 0)
    if len(lead) < _LEAD.size or _LEAD.unpack(lead)[0] != _LEAD_MAGIC:
        raise PackageError(f"{name} is not an RPM")
    count, end = _section(fd, _LEAD.size, name)
    index = os.pread(fd, count * _ENTRY.size, _LEAD.size + _INTRO.size)
    tags = {entry[0] for entry in _ENTRY.iter_unpack(index)} if len(index) == count * _ENTRY.size else set()
    # the signature section is padded to 8 bytes
    _, payload = _section(fd, end + -end % 8, name)
    if payload > size:
        raise PackageError(f"{name} is cut off")
    return Layout(payload_offset=payload, signed=not tags.isdisjoint(_SIGNATURE_TAGS))


def _section(fd: int, offset: int, name: str) -> tuple[int, int]:
    """(number of index entries, offset behind it) of the header structure at offset."""
    intro = os.pread(fd, _INTRO.size, offset)
    if len(intro) < _INTRO.size:
        raise PackageError(f"{name} is cut off")
    magic, count, data = _INTRO.unpack(intro)
    if magic != _INTRO_MAGIC or count > _MAX_ENTRIES or data > _MAX_DATA:
        raise PackageError(f"{name} is damaged: there is no header where one must be")
    return count, offset + _INTRO.size + count * _ENTRY.size + data


def _signers(header: Any) -> tuple[str, ...]:
    """Key IDs that the signatures name."""
    found: dict[str, None] = {}
    for tag in ("OPENPGP", "RSAHEADER", "DSAHEADER"):
        try:
            text = header.sprintf(f"[%{{{tag}:pgpsig}}\n]")
        except (rpm.error, ValueError):
            continue  # RPM 4 does not know OPENPGP
        for match in _KEY_ID.finditer(text):
            found[match[1].lower()[-16:]] = None
    return tuple(found)


def _checked(header: Any, key: str) -> Checked:
    digest = None
    for tag, algorithm in _PAYLOAD_TAGS:
        if tag in header and (value := header[tag]):
            digest = (algorithm, value if isinstance(value, str) else value[0])
            break
    return Checked(
        nevra=Nevra(
            name=header[rpm.RPMTAG_NAME],
            epoch=header[rpm.RPMTAG_EPOCH] or 0,
            version=header[rpm.RPMTAG_VERSION],
            release=header[rpm.RPMTAG_RELEASE],
            arch=header[rpm.RPMTAG_ARCH],
        ),
        key=key,
        payload_digest=digest,
    )
