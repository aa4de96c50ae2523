"""Who signs: a key of GnuPG, a key in a file (compose.ostree.keys), or a program that asks something else to.

A program is for keys that no file holds: of a module for security, a cloud's, a signing server's. It gets the bytes on standard
input and gives a detached signature on standard output.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from compose import fs
from compose.errors import UsageError
from compose.events import Reporter
from compose.openpgp import BadPacketError, packets
from compose.ostree.sign import GPG_SIGNATURES, gpg_signature

METADATA_KEYS = {"gpg": GPG_SIGNATURES, "ed25519": "ostree.sign.ed25519", "spki": "ostree.sign.spki"}
"""Where signatures of a kind are, in detached metadata and in summary.sig."""
_ED25519_SIZE = 64
_SIGNATURE_PACKET = 2
_ARMOR = b"-----BEGIN PGP"
_MOST = 1 << 20
"""Bytes of a signature, and of what a program says that are looked at."""
_PATIENCE = 5.0
"""Seconds that signing may take without a word."""
_LINES = 10
"""Of what a program says, at the end, for an error."""


class Signer(Protocol):
    """metadata_key: of detached metadata, or of summary.sig, where its signatures are. name: for messages."""

    @property
    def metadata_key(self) -> str: ...

    @property
    def name(self) -> str: ...

    def sign(self, data: bytes) -> bytes:
        """A detached signature. Raises UsageError when it cannot be had."""


@dataclass(frozen=True, slots=True)
class GpgKey:
    """key: id, fingerprint or address, of this user's GnuPG home."""

    key: str

    @property
    def metadata_key(self) -> str:
        return GPG_SIGNATURES

    @property
    def name(self) -> str:
        return f"GnuPG with key {self.key}"

    def sign(self, data: bytes) -> bytes:
        return gpg_signature(data, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignCommand:
    """kind: "gpg", "ed25519" or "spki". argv: of the program; no shell has a part in it."""

    kind: str
    argv: tuple[str, ...]

    @property
    def metadata_key(self) -> str:
        return METADATA_KEYS[self.kind]

    @property
    def name(self) -> str:
        return f"--sign-command: {shlex.join(self.argv)}"

    def sign(self, data: bytes) -> bytes:
        name = shlex.join(self.argv)
        status, signature, said = self._run(data)
        if status:
            how = f"status {status}" if status > 0 else f"signal {-status}"
            raise UsageError(f"--sign-command: {name} ended with {how}, and nothing is signed", details=said)
        fault = self._fault(signature)
        if fault:
            raise UsageError(
                f"--sign-command: what {name} wrote is no signature: {fault}",
                details=said,
                hint="it must write nothing but the detached signature to standard output, binary",
            )
        return signature

    def _run(self, data: bytes) -> tuple[int, bytes, list[str]]:
        """Status as subprocess has it, what it wrote, and the last lines of what it said."""
        # a file, and no pipe: what the program leaves behind, ssh that keeps its connection, say, has no end of it to close
        with fs.memory_file("signed") as source, tempfile.TemporaryFile() as errors:
            source.write(data)
            source.seek(0)
            try:
                process = subprocess.Popen(self.argv, stdin=source, stdout=subprocess.PIPE, stderr=errors)
            except OSError as error:
                raise UsageError(f"--sign-command: cannot run {self.argv[0]}: {error.strerror}") from error
            assert process.stdout is not None
            try:
                signature = process.stdout.read(_MOST + 1)
                if len(signature) > _MOST:
                    raise UsageError(
                        f"--sign-command: {shlex.join(self.argv)} wrote more than {_MOST} bytes, which is no signature"
                    )
                status = process.wait()
            finally:
                # when it has not ended by itself
                process.kill()
                process.wait()
                process.stdout.close()
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _MOST))
            return status, signature, errors.read().decode(errors="replace").splitlines()[-_LINES:]

    def _fault(self, signature: bytes) -> str | None:
        if not signature:
            return "it is empty"
        if self.kind == "ed25519" and len(signature) != _ED25519_SIZE:
            return f"one of ed25519 has {_ED25519_SIZE} bytes, this {len(signature)}"
        if self.kind == "gpg":
            if signature.startswith(_ARMOR):
                return "it is armored"
            try:
                if {tag for tag, _, _ in packets(signature)} != {_SIGNATURE_PACKET}:
                    return "it holds other OpenPGP packets"
            except BadPacketError as error:
                return str(error)
        return None


def parse_command(text: str) -> SignCommand:
    """text: [KIND=]COMMAND, words as a shell's. Raises UsageError for what is none."""
    kind, equals, rest = text.partition("=")
    if not equals or kind not in METADATA_KEYS:
        kind, rest = "gpg", text
    try:
        argv = tuple(shlex.split(rest))
    except ValueError as error:
        raise UsageError(f"--sign-command={text}: {error}") from error
    if not argv:
        raise UsageError(f"--sign-command={text}: names no program")
    return SignCommand(kind=kind, argv=argv)


def signed_by(data: bytes, signers: Iterable[Signer], reporter: Reporter) -> list[tuple[str, bytes]]:
    """One by each, with the key that it is kept under. Raises UsageError.

    There is no limit of time, since a module may wait for somebody to touch it; the reporter says what is waited for.
    """
    signatures = []
    for each in signers:
        waiting = threading.Timer(_PATIENCE, reporter.info, (f"still waiting for a signature ({each.name})",))
        waiting.daemon = True
        waiting.start()
        try:
            signatures.append((each.metadata_key, each.sign(data)))
        finally:
            waiting.cancel()
    return signatures
