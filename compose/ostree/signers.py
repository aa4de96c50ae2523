"""Signers of commits and summaries: a key of GnuPG, a key in a file (compose.ostree.keys), or a program.

Programs are for keys that are not in files, such as those of a hardware security module, a cloud service or a signing server.
They get the data on standard input and write a detached signature to standard output.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from compose import fs
from compose.errors import UsageError
from compose.events import Reporter
from compose.openpgp import BadPacketError, packets
from compose.ostree.sign import GPG_SIGNATURES, gpg_signature, require_gpg_key

METADATA_KEYS = {"gpg": GPG_SIGNATURES, "ed25519": "ostree.sign.ed25519", "spki": "ostree.sign.spki"}
"""The key under which signatures of a kind are kept in detached metadata and in summary.sig."""
_ED25519_SIZE = 64
_SIGNATURE_PACKET = 2
_ARMOR = b"-----BEGIN PGP"
_MAX_BYTES = 1 << 20
"""Bytes of a signature that are accepted, and bytes of a program's standard error that are read."""
_PATIENCE = 5.0
"""Seconds after which a signature that is still being made is reported."""
_LINES = 10
"""Number of the last lines of a program's standard error that an error shows."""


class Signer(Protocol):
    """metadata_key: the key under which its signatures are kept in detached metadata and in summary.sig. name: for
    messages."""

    @property
    def metadata_key(self) -> str: ...

    @property
    def name(self) -> str: ...

    def sign(self, data: bytes) -> bytes:
        """Return a detached signature of data. Raises UsageError if it cannot be made."""


@dataclass(frozen=True, slots=True)
class GpgKey:
    """A key in this user's GnuPG home. key: id, fingerprint or address. origin: flag or treefile key that names it, for
    messages."""

    key: str
    origin: str = "--gpg-key"

    @property
    def metadata_key(self) -> str:
        return GPG_SIGNATURES

    @property
    def name(self) -> str:
        return f"GnuPG with key {self.key}"

    def check(self) -> None:
        """Raise UsageError if there is no such key."""
        require_gpg_key(self.key, self.origin)

    def sign(self, data: bytes) -> bytes:
        return gpg_signature(data, self.key, self.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignCommand:
    """A program that signs. kind: of its signatures, "gpg", "ed25519" or "spki". argv: its arguments; it is run without a
    shell."""

    kind: str
    argv: tuple[str, ...]

    @property
    def metadata_key(self) -> str:
        return METADATA_KEYS[self.kind]

    @property
    def name(self) -> str:
        return f"--sign-command: {shlex.join(self.argv)}"

    def check(self) -> None:
        """Raise UsageError if there is no such program."""
        if shutil.which(self.argv[0]) is None:
            raise UsageError(f"--sign-command: there is no program {self.argv[0]}")

    def sign(self, data: bytes) -> bytes:
        name = shlex.join(self.argv)
        status, signature, messages = self._run(data)
        if status:
            how = f"status {status}" if status > 0 else f"signal {-status}"
            raise UsageError(f"--sign-command: {name} failed with {how}", details=messages)
        fault = self._fault(signature)
        if fault:
            raise UsageError(
                f"--sign-command: the output of {name} is not a signature: {fault}",
                details=messages,
                hint="it must write only the detached signature to standard output, in binary",
            )
        return signature

    def _run(self, data: bytes) -> tuple[int, bytes, list[str]]:
        """Return its status as subprocess does, its output, and the last lines of its standard error."""
        # standard error is a file, because a child that the program leaves running (ssh, for example) would keep a pipe open
        with fs.memory_file("signed") as source, fs.memory_file("errors") as errors:
            source.write(data)
            source.seek(0)
            try:
                process = subprocess.Popen(self.argv, stdin=source, stdout=subprocess.PIPE, stderr=errors)
            except OSError as error:
                raise UsageError(f"--sign-command: cannot run {self.argv[0]}: {error.strerror}") from error
            assert process.stdout is not None
            try:
                signature = process.stdout.read(_MAX_BYTES + 1)
                if len(signature) > _MAX_BYTES:
                    raise UsageError(
                        f"--sign-command: {shlex.join(self.argv)} wrote more than {_MAX_BYTES} bytes, which is not a signature"
                    )
                status = process.wait()
            finally:
                # if it has not ended by itself
                process.kill()
                process.wait()
                process.stdout.close()
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _MAX_BYTES))
            return status, signature, errors.read().decode(errors="replace").splitlines()[-_LINES:]

    def _fault(self, signature: bytes) -> str | None:
        if not signature:
            return "it is empty"
        if self.kind == "ed25519" and len(signature) != _ED25519_SIZE:
            return f"it has {len(signature)} bytes, but an ed25519 signature has {_ED25519_SIZE}"
        if self.kind == "gpg":
            if signature.startswith(_ARMOR):
                return "it is armored"
            try:
                if {tag for tag, _, _ in packets(signature)} != {_SIGNATURE_PACKET}:
                    return "it contains other OpenPGP packets"
            except BadPacketError as error:
                return str(error)
        return None


def parse_command(text: str) -> SignCommand:
    """Parse [KIND=]COMMAND, whose words are quoted as in a shell. KIND is gpg by default. Raises UsageError."""
    kind, equals, rest = text.partition("=")
    if not equals or kind not in METADATA_KEYS:
        kind, rest = "gpg", text
    try:
        argv = tuple(shlex.split(rest))
    except ValueError as error:
        raise UsageError(f"--sign-command={text}: {error}") from error
    if not argv:
        raise UsageError(f"--sign-command={text}: the command is empty")
    return SignCommand(kind=kind, argv=argv)


def signed_by(data: bytes, signers: Iterable[Signer], reporter: Reporter) -> list[tuple[str, bytes]]:
    """Sign data with each signer. Returns pairs of the key under which the signature is kept and the signature. Raises
    UsageError.

    There is no time limit, because a security module may wait for somebody to touch it. The reporter tells which signer is
    slow.
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
