"""Keys that commits are signed with as `ostree sign` does it, without GnuPG.

    ed25519     a line with the base64 of 64 bytes: the secret seed, and the public key
    spki        PEM, "PRIVATE KEY" (PKCS#8), of any algorithm that OpenSSL signs with

Signatures are detached, of the commit object's bytes, in an array under ostree.sign.ed25519 or ostree.sign.spki of the
commit's detached metadata (libostree: ostree-sign-ed25519.c, ostree-sign-spki.c, ostree-blob-reader-pem.c). OpenSSL signs, by
its program, as gpg does for gpg-key: arithmetic in Python would tell of a key by the time that it takes. The program gets the
key in a file that is on no disk.
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
"""PKCS#8 around a seed (RFC 8410, 7)."""
_MOST = 1 << 20
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_LABEL = "PRIVATE KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """kind: "ed25519" or "spki". path: of its file, for messages. der: PKCS#8."""

    kind: str
    path: str
    der: bytes = field(repr=False)

    @property
    def metadata_key(self) -> str:
        """Of detached metadata, where its signatures are."""
        return f"ostree.sign.{self.kind}"

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.kind}={self.path}"

    def sign(self, data: bytes) -> bytes:
        """A detached signature. Raises UsageError with what OpenSSL says."""
        with fs.memory_file("commit") as file:
            # not by a pipe: an algorithm that signs in one go wants to know how much it is
            file.write(data)
            file.flush()
            words = ["pkeyutl", "-sign", "-rawin", "-in", f"/proc/self/fd/{file.fileno()}", "-keyform", "DER", "-inkey"]
            return self._openssl(words, file.fileno())

    def public(self) -> bytes:
        """SubjectPublicKeyInfo, DER. Raises UsageError for what is no key."""
        return self._openssl(["pkey", "-pubout", "-outform", "DER", "-inform", "DER", "-in"])

    def _openssl(self, words: list[str], *inherited: int) -> bytes:
        """words: at whose end the key stands."""
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
                raise UsageError(
                    f"{self.name}: openssl is not installed, and only it signs", hint="install openssl"
                ) from None
        if done.returncode or not done.stdout:
            raise UsageError(
                f"{self.name}: OpenSSL cannot sign with this key",
                details=done.stderr.decode(errors="replace").splitlines()[-10:],
            )
        return done.stdout


def read_keys(text: str) -> tuple[SigningKey, ...]:
    """The keys of a file, each of which signs. text: KIND=PATH. Raises UsageError for what is none."""
    kind, equals, path = text.partition("=")
    if not equals or kind not in _KINDS or not path:
        raise UsageError(f"{text}: is no key to sign with", hint="give ed25519=FILE or spki=FILE")
    try:
        with open(path, encoding="ascii") as file:
            content = file.read(_MOST)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"{text}: is no key: it is not text") from None
    keys = _ed25519_keys(content, path) if kind == "ed25519" else _spki_keys(content, path)
    if not keys:
        raise UsageError(f"{text}: has no secret key")
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
                f"{path}:{number}: is no secret key of ed25519: it must be the base64 of {2 * _SEED} bytes",
                hint="of the seed and of the public key, as ostree sign has it; a key in PEM is given with spki=",
            )
        key = SigningKey(kind="ed25519", path=path, der=_ED25519 + data[:_SEED])
        if key.public()[-_SEED:] != data[_SEED:]:
            raise UsageError(f"{path}:{number}: is no secret key of ed25519: its public half is another key's")
        keys.append(key)
    return tuple(keys)


def _spki_keys(content: str, path: str) -> tuple[SigningKey, ...]:
    keys = []
    for label, body in _PEM.findall(content):
        if label != _LABEL:
            raise UsageError(
                f"{path}: has a block {label}, and a {_LABEL} is what signs",
                hint="openssl pkcs8 -topk8 -nocrypt makes one of other private keys",
            )
        try:
            der = base64.b64decode("".join(body.split()), validate=True)
        except binascii.Error as error:
            raise UsageError(f"{path}: is no PEM: {error}") from error
        key = SigningKey(kind="spki", path=path, der=der)
        key.public()
        keys.append(key)
    return tuple(keys)
