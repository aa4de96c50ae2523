"""Signatures of commits by GnuPG, as ostree keeps them: detached signatures of the commit object's bytes.

They are in the commit's detached metadata, under ostree.gpgsigs (ostree-repo.c, ostree_repo_sign_commit()).
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
"""What the other keys begin with under which signatures are kept (ostree-sign-*.c)."""


def gpg_signature(data: bytes, key: str) -> bytes:
    """A detached signature of data by a key of this user's GnuPG home (GNUPGHOME).

    key: id, fingerprint or address. Raises UsageError with what gpg says.
    """
    command = ["gpg", "--batch", "--detach-sign", f"--local-user={key}", "--output=-"]
    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise UsageError("gpg-key: gpg is not installed", hint="install gnupg, or leave gpg-key out") from None
    if done.returncode or not done.stdout:
        raise UsageError(
            f"gpg-key: gpg cannot sign with {key}",
            details=done.stderr.decode(errors="replace").splitlines()[-10:],
            hint="the secret key must be in this user's GnuPG home (GNUPGHOME), and be usable without asking",
        )
    return done.stdout


def joined(present: Metadata, given: Metadata, signatures: Sequence[tuple[str, bytes]]) -> Metadata:
    """Detached metadata of a commit that may have some: what is given takes the place of what has its name, signatures (where
    they are kept, and each) are added, keys sorted.

    libostree adds signatures as well, one more each time that the same key signs; here the key's earlier one goes, where it
    can be told.
    """
    there_already = {name: variant for name, variant in present if _holds_signatures(name, variant)}
    # what is no array takes the place of none
    found = {**dict(present), **{name: each for name, each in given if each.type == "aay" or name not in there_already}}
    gpg = [signature for key, signature in signatures if key == GPG_SIGNATURES]
    signers = frozenset[bytes]().union(*map(issuers, gpg))
    for name in dict.fromkeys(key for key, _ in signatures):
        added = [signature for key, signature in signatures if key == name]
        earlier = found.get(name)
        there = earlier.value if earlier is not None and earlier.type == "aay" else ()
        if name == GPG_SIGNATURES:
            kept = [each for each in there if not issuers(each) or issuers(each) - signers]
        else:
            # an ed25519 key signs the same alike
            kept = [each for each in there if each not in added]
        found[name] = Variant("aay", [*kept, *added])
    return tuple(sorted(found.items()))


def parted(detached: Metadata) -> tuple[Metadata, list[tuple[str, bytes]]]:
    """Detached metadata without the signatures that are among it, and these: so they are added elsewhere, as joined() does."""
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
