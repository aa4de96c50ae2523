"""Keys of `ostree sign`, which sign commits without GnuPG.

    ed25519     lines with the base64 of 64 bytes: the secret seed and the public key
    spki        PEM blocks "PRIVATE KEY" (PKCS#8), of any algorithm that OpenSSL can sign with

Signatures are detached, made over the commit object, and kept in an array in the commit's detached metadata, under the key
ostree.sign.ed25519 or ostree.sign.spki (libostree: ostree-sign-ed25519.c, ostree-sign-spki.c, ostree-blob-reader-pem.c). The
program openssl makes them: arithmetic in Python would reveal a key by its timing. It gets the key in a file in memory.
"""

from __future__ import annotations

import base64
import binascii
import re
import subprocess
from dataclasses import dataclass, field

from compose import fs
from compose.errors import UsageError

_KINDS = ("ed25519", "spki")
_SEED = 32
_ED25519 = bytes.fromhex("302e020100300506032b657004220420")
"""What precedes a seed in PKCS#8 (RFC 8410, section 7)."""
_MAX_SIZE = 1 << 20
"""Bytes of a key file that are read."""
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_LABEL = "PRIVATE KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A secret key. kind: "ed25519" or "spki". path: of its file, for messages. der: the key as PKCS#8."""

    kind: str
    path: str
    der: bytes = field(repr=False)

    @property
    def metadata_key(self) -> str:
        """Key of detached metadata under which its signatures are kept."""
        return f"ostree.sign.{self.kind}"

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.kind}={self.path}"

    def sign(self, data: bytes) -> bytes:
        """Return a detached signature of data. Raises UsageError with the output of OpenSSL."""
        with fs.memory_file("commit") as file:
            # not through a pipe, because algorithms that sign in one step need to know the size
            file.write(data)
            file.flush()
            words = ["pkeyutl", "-sign", "-rawin", "-in", f"/proc/self/fd/{file.fileno()}", "-keyform", "DER", "-inkey"]
            return self._openssl(words, file.fileno())

    def public(self) -> bytes:
        """Return the public key as SubjectPublicKeyInfo, DER. Raises UsageError if der is not a key."""
        return self._openssl(["pkey", "-pubout", "-outform", "DER", "-inform", "DER", "-in"])

    def _openssl(self, words: list[str], *inherited: int) -> bytes:
        """Run openssl and return its output. words: its arguments, without the path of the key, which is the last. inherited:
        descriptors that it needs."""
        with fs.memory_file("key") as file:
            file.write(self.der)
            file.flush()
            command = ["openssl", *words, f"/proc/self/fd/{file.fileno()}"]
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                    pass_fds=(file.fileno(), *inherited),
                )
            except FileNotFoundError:
                raise UsageError(f"{self.name}: openssl is not installed", hint="install openssl") from None
        if done.returncode or not done.stdout:
            raise UsageError(
                f"{self.name}: OpenSSL cannot sign with this key",
                details=done.stderr.decode(errors="replace").splitlines()[-10:],
            )
        return done.stdout


def read_keys(text: str) -> tuple[SigningKey, ...]:
    """Read all keys of a file. text: KIND=PATH. Raises UsageError if it is malformed, or if the file cannot be read or does not
    contain valid keys."""
    kind, equals, path = text.partition("=")
    if not equals or kind not in _KINDS or not path:
        raise UsageError(f"{text}: not a key to sign with", hint="give ed25519=FILE or spki=FILE")
    try:
        with open(path, encoding="ascii") as file:
            content = file.read(_MAX_SIZE)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"{text}: not a key, because it is not text") from None
    keys = _ed25519_keys(content, path) if kind == "ed25519" else _spki_keys(content, path)
    if not keys:
        raise UsageError(f"{text}: contains no secret key")
    return keys


def _ed25519_keys(content: str, path: str) -> tuple[SigningKey, ...]:
    keys = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = base64.b64decode(line.strip(), validate=True)
        except binascii.Error:
            data = b""
        if len(data) != 2 * _SEED:
            raise UsageError(
                f"{path}:{number}: not a secret ed25519 key, which is the base64 of {2 * _SEED} bytes",
                hint="as for ostree sign: of the seed and the public key; use spki= for a key in PEM",
            )
        key = SigningKey(kind="ed25519", path=path, der=_ED25519 + data[:_SEED])
        if key.public()[-_SEED:] != data[_SEED:]:
            raise UsageError(f"{path}:{number}: not a secret ed25519 key: its public half belongs to another key")
        keys.append(key)
    return tuple(keys)


def _spki_keys(content: str, path: str) -> tuple[SigningKey, ...]:
    keys = []
    for label, body in _PEM.findall(content):
        if label != _LABEL:
            raise UsageError(
                f"{path}: contains a block {label}, but only a {_LABEL} can sign",
                hint="convert other private keys with: openssl pkcs8 -topk8 -nocrypt",
            )
        try:
            der = base64.b64decode("".join(body.split()), validate=True)
        except binascii.Error as error:
            raise UsageError(f"{path}: not PEM: {error}") from error
        key = SigningKey(kind="spki", path=path, der=der)
        key.public()
        keys.append(key)
    return tuple(keys)
