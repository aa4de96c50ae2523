"""Signature checks by librpm, with a keyring that holds the keys of the repository and nothing else.

An RPM's signature covers its header, and the header has the payload's digest (rpm's docs/manual/format_v4.md and
signatures_digests.md). So the signature is checked first, then the digest of the payload.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import rpm

from compose.errors import PackageError, TrustError
from compose.rpm.header import load_header, nevra_of, payload_digest
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
_WEAK = re.compile(r"/(MD5|SHA1|RIPEMD160)\b")
_KEY_ID = re.compile(r"Key (?:ID|Fingerprint):? ([0-9a-fA-F]{16,64})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the parts of an RPM file are. payload_offset: bytes from the start. signed: the signature section has a
    signature of the header."""

    payload_offset: int
    signed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Facts from a header that librpm accepted. key: ID of the signing key, 16 hex digits, "" if no signature was
    required. payload_digest: (hashlib name, hex) of the compressed payload, None if the header has none."""

    nevra: Nevra
    key: str
    payload_digest: tuple[str, str] | None


class Keyring:
    """A librpm keyring of the keys that may sign. Not thread-safe.

    keys: those that librpm accepts. unusable: those that it does not support.
    """

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        self.keys: list[PublicKey] = []
        self.unusable: list[PublicKey] = []
        self._ring = rpm.keyring()
        for key in keys:
            # a key file may hold future keys, of an algorithm that this librpm does not support
            try:
                self._ring.addKey(rpm.pubkey(key.armored))
            except (rpm.error, ValueError):
                self.unusable.append(key)
            else:
                self.keys.append(key)
        self._key_ids = {key_id for key in self.keys for key_id in key.key_ids}
        self._transaction = rpm.TransactionSet()
        # check everything, whatever the host's rpm configuration says
        self._transaction.setVSFlags(0)
        self._transaction.setKeyring(self._ring)

    def check(self, fd: int, name: str, layout: Layout) -> Checked:
        """Check that one of the keys signed the RPM open at fd. name: what messages call the file.

        Raises TrustError if it is unsigned, was signed by another key or an invalid one, or has a bad signature.
        """
        if not layout.signed:
            raise TrustError(f"{name} is not signed", hint=_UNSIGNED_HINT)
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            header = self._transaction.hdrFromFdno(fd)
        except rpm.error as error:
            raise self._refusal(fd, name, str(error)) from error
        key = next((signer for signer in _signers(header) if signer in self._key_ids), None)
        if key is None:
            # librpm accepted a signature without naming its key: what cannot be explained is not trusted
            raise TrustError(f"{name}: librpm {rpm.__version__} does not say which key signed it", hint=_FORMAT_HINT)
        return _checked(header, key)

    def _refusal(self, fd: int, name: str, reason: str) -> TrustError:
        """Return the error for an RPM that librpm refused. reason: librpm's message."""
        try:
            signers = _signers(load_header(fd))
        except rpm.error:
            return TrustError(f"{name}: its header is damaged or its signature is wrong", hint=_BROKEN_HINT)
        by = " and ".join(signers) or "an unnamed key"
        offered = ", ".join([*map(str, self.keys), *(f"{key} (not supported by this librpm)" for key in self.unusable)])
        if "not available" in reason:
            missing = [signer for signer in signers if signer not in self._key_ids] or list(signers)
            return TrustError(
                f"{name} is signed by {by}; the repository's keys are: {offered}",
                hint=f"if you trust {' and '.join(missing)}, add its key file to the repository's gpgkey=",
            )
        if "not trusted" in reason:
            if weak := _weak_digests(load_header(fd)):
                return TrustError(
                    f"{name} is signed by {by} with {weak}, which is no longer safe",
                    hint="have the packages of its repository signed again (rpmsign --resign)",
                )
            return TrustError(
                f"{name} is signed by {by}, which is revoked, expired, certified with SHA-1 or otherwise not valid",
                hint="set gpgkey= to the repository's current key, or have its packages signed again",
            )
        return TrustError(f"{name}: the signature by {by} is wrong: {reason}", hint=_BROKEN_HINT)


_UNSIGNED_HINT = "sign it (rpmsign --addsign), or set gpgcheck=0 for its repository if nobody can tamper with it"
_FORMAT_HINT = "librpm 4 cannot read the signatures of packages in RPM 6 format: compose on a host with librpm 6"
_BROKEN_HINT = "the file was changed after it was signed: do not use it, and tell whoever runs the repository"


def check_unsigned(fd: int, name: str) -> Checked:
    """Check the header's digests alone, for a repository with gpgcheck=0. Raises PackageError."""
    try:
        header = load_header(fd)
    except rpm.error as error:
        raise PackageError(f"{name}: its header is damaged: {error}") from error
    return _checked(header, "")


def read_layout(fd: int, name: str) -> Layout:
    """Find the parts of the RPM file open at fd. Raises PackageError if it is no RPM, or is truncated."""
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
        raise PackageError(f"{name} is truncated")
    return Layout(payload_offset=payload, signed=not tags.isdisjoint(_SIGNATURE_TAGS))


def _section(fd: int, offset: int, name: str) -> tuple[int, int]:
    """Return the number of index entries of the header structure at offset, and the offset of its end."""
    intro = os.pread(fd, _INTRO.size, offset)
    if len(intro) < _INTRO.size:
        raise PackageError(f"{name} is truncated")
    magic, count, data = _INTRO.unpack(intro)
    if magic != _INTRO_MAGIC or count > _MAX_ENTRIES or data > _MAX_DATA:
        raise PackageError(f"{name} is damaged: it has no header where one must be")
    return count, offset + _INTRO.size + count * _ENTRY.size + data


def _signers(header: Any) -> tuple[str, ...]:
    """Return the IDs of the keys that the signatures name."""
    return tuple(dict.fromkeys(match[1].lower()[-16:] for match in _KEY_ID.finditer(_signatures(header))))


def _weak_digests(header: Any) -> str:
    """Name the digests of signatures that are too weak, as librpm calls them; "" for none."""
    return " and ".join(sorted(set(_WEAK.findall(_signatures(header)))))


def _signatures(header: Any) -> str:
    """Describe each signature of the header in a line: "RSA/SHA256, TIME, Key ID ...", "Key Fingerprint: ..."."""
    lines = []
    for tag in ("OPENPGP", "RSAHEADER", "DSAHEADER"):
        # RPM 4 does not know OPENPGP
        with suppress(rpm.error, ValueError):
            lines.append(header.sprintf(f"[%{{{tag}:pgpsig}}\n]"))
    return "".join(lines)


def _checked(header: Any, key: str) -> Checked:
    return Checked(
        nevra=nevra_of(header),
        key=key,
        payload_digest=payload_digest(header),
    )
