"""Signatures of commits: made by GnuPG, and kept in detached metadata.

GnuPG's are detached signatures of the commit object's bytes, under ostree.gpgsigs (ostree-repo.c, ostree_repo_sign_commit()).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from compose.errors import UsageError
from compose.openpgp import issuers
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Metadata

GPG_SIGNATURES = "ostree.gpgsigs"
_SIGN_API = "ostree.sign."
"""Prefix of the other keys under which signatures are kept (ostree-sign-*.c)."""


def gpg_signature(data: bytes, key: str, origin: str) -> bytes:
    """Return a detached signature of data, made with a key in this user's GnuPG home (GNUPGHOME).

    key: id, fingerprint or address. origin: flag or treefile key that names it, for messages. Raises UsageError with the output
    of gpg.
    """
    return _gpg(key, origin, "--detach-sign", f"--local-user={key}", "--output=-", data=data)


def require_gpg_key(key: str, origin: str) -> None:
    """Raise UsageError unless this user's GnuPG home has a secret key. key, origin: as for gpg_signature()."""
    _gpg(key, origin, "--list-secret-keys", "--", key)


def _gpg(key: str, origin: str, *arguments: str, data: bytes = b"") -> bytes:
    try:
        done = subprocess.run(["gpg", "--batch", *arguments], input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise UsageError(f"{origin}: gpg is not installed", hint=f"install gnupg, or leave {origin} out") from None
    if done.returncode or not done.stdout:
        raise UsageError(
            f"{origin}: gpg cannot sign with {key}",
            details=done.stderr.decode(errors="replace").splitlines()[-10:],
            hint="the secret key must be in this user's GnuPG home (GNUPGHOME), and usable without a passphrase prompt",
        )
    return done.stdout


def joined(present: Metadata, given: Metadata, signatures: Sequence[tuple[str, bytes]]) -> Metadata:
    """Merge detached metadata of a commit, sorted by key.

    given: replaces entries of `present` with the same key, except that signatures are replaced only by signatures. signatures:
    the key under which each is kept, and the signature; these are added. libostree adds one more each time that the same key
    signs; here the new signature replaces the key's earlier one, if that can be identified.
    """
    existing = {name: variant for name, variant in present if _holds_signatures(name, variant)}
    # signatures are not replaced by another type of value
    found = {**dict(present), **{name: each for name, each in given if each.type == "aay" or name not in existing}}
    gpg = [signature for key, signature in signatures if key == GPG_SIGNATURES]
    signers = frozenset[bytes]().union(*map(issuers, gpg))
    for name in dict.fromkeys(key for key, _ in signatures):
        added = [signature for key, signature in signatures if key == name]
        earlier = found.get(name)
        there = earlier.value if earlier is not None and earlier.type == "aay" else ()
        if name == GPG_SIGNATURES:
            kept = [each for each in there if not issuers(each) or issuers(each) - signers]
        else:
            # an ed25519 key makes the same signature of the same data
            kept = [each for each in there if each not in added]
        found[name] = Variant("aay", [*kept, *added])
    return tuple(sorted(found.items()))


def parted(detached: Metadata) -> tuple[Metadata, list[tuple[str, bytes]]]:
    """Split detached metadata into what is not a signature, and the signatures as joined() takes them."""
    signatures: list[tuple[str, bytes]] = []
    rest = []
    for name, variant in detached:
        if _holds_signatures(name, variant):
            signatures += [(name, each) for each in variant.value]
        else:
            rest.append((name, variant))
    return tuple(rest), signatures


def _holds_signatures(name: str, variant: Variant) -> bool:
    return variant.type == "aay" and (name == GPG_SIGNATURES or name.startswith(_SIGN_API))
