"""Signatures of commits by GnuPG, as ostree keeps them: detached signatures of the commit object's bytes.

They are in the commit's detached metadata, under ostree.gpgsigs (ostree-repo.c, ostree_repo_sign_commit()).
"""

from __future__ import annotations

import subprocess

from compose.errors import UsageError
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Metadata

GPG_SIGNATURES = "ostree.gpgsigs"


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


def with_signatures(detached: Metadata, signatures: list[bytes]) -> Metadata:
    """Detached metadata with signatures added, keys sorted."""
    if not signatures:
        return detached
    return tuple(sorted({**dict(detached), GPG_SIGNATURES: Variant("aay", signatures)}.items()))
