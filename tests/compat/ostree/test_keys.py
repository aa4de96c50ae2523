"""Signatures without GnuPG. OpenSSL is the judge, and ostree where it was built with them."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from compose.errors import UsageError
from compose.events import Reporter
from compose.ostree.keys import SigningKey, read_keys
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from tests.compat.ostree.test_commit import ostree
from tests.support.rpmrepo import run

ALGORITHMS = {
    "ed25519": ("-algorithm", "ed25519"),
    "P-384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "RSA": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
}


def generate(path: Path, algorithm: str) -> Path:
    run("openssl", "genpkey", *ALGORITHMS[algorithm], "-out", str(path))
    return path


def raw(pem: Path) -> tuple[bytes, bytes]:
    """Seed and public key of ed25519."""
    found = [
        subprocess.run(
            ["openssl", "pkey", "-in", str(pem), "-outform", "DER", *flags], check=True, capture_output=True
        ).stdout[-32:]
        for flags in ((), ("-pubout",))
    ]
    return found[0], found[1]


def ed25519_file(path: Path) -> Path:
    """As ostree sign has it."""
    secret, public = raw(generate(path.with_suffix(".pem"), "ed25519"))
    path.write_bytes(base64.b64encode(secret + public) + b"\n")
    return path


def verify(pem: Path, data: bytes, signature: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "signature").write_bytes(signature)
    run("openssl", "pkeyutl", "-verify", "-rawin", "-inkey", str(pem), "-in", str(tmp_path / "data"),
        "-sigfile", str(tmp_path / "signature"))  # fmt: skip


def commit(repo: Path, *keys: SigningKey) -> str:
    with Repo.open(str(repo)) as opened, Transaction(opened, jobs=1, reporter=Reporter()) as transaction:
        return transaction.write_commit(
            Commit(
                metadata=(),
                parent=b"",
                subject="s",
                body="",
                timestamp=1,
                root_tree=transaction.write_dirtree((), ()),
                root_meta=transaction.write_dirmeta(0, 0, 0o40755, ()),
            ),
            signers=keys,
        )


def signatures(repo: Path, checksum: str, key: str) -> list[bytes]:
    with Repo.open(str(repo)) as opened:
        (found,) = [variant for name, variant in opened.read_detached(checksum) if name == key]
    assert found.type == "aay"
    return list(found.value)


def judged_by_ostree(repo: Path, checksum: str, kind: str, public: bytes) -> bool:
    """False where this ostree cannot."""
    if f"sign-{kind}" not in run("ostree", "--version"):
        return False
    ostree(repo, "sign", "--verify", f"--sign-type={kind}", checksum, base64.b64encode(public).decode())
    return True


def test_ed25519(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    ostree(repo, "init", "--mode=archive")
    one, other = ed25519_file(tmp_path / "one"), ed25519_file(tmp_path / "other")
    (tmp_path / "both").write_bytes(b"\n" + one.read_bytes() + other.read_bytes())
    checksum = commit(repo, *read_keys(f"ed25519={one}"))
    data = (repo / f"objects/{checksum[:2]}/{checksum[2:]}.commit").read_bytes()
    (signature,) = signatures(repo, checksum, "ostree.sign.ed25519")
    verify(one.with_suffix(".pem"), data, signature, tmp_path)
    with pytest.raises(AssertionError, match="Signature Verification Failure"):
        verify(other.with_suffix(".pem"), data, signature, tmp_path)
    # a second one beside it, the first once
    assert commit(repo, *read_keys(f"ed25519={tmp_path}/both")) == checksum
    kept, added = signatures(repo, checksum, "ostree.sign.ed25519")
    assert kept == signature
    verify(other.with_suffix(".pem"), data, added, tmp_path)
    # how it prints them depends on their bytes: one that ends with 0, every 16th, is printed as text
    assert ostree(repo, "show", "--print-detached-metadata-key=ostree.sign.ed25519", checksum).strip()
    for each in (one, other):
        judged_by_ostree(repo, checksum, "ed25519", raw(each.with_suffix(".pem"))[1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_spki(tmp_path: Path, algorithm: str) -> None:
    repo, pem = tmp_path / "repo", generate(tmp_path / "key.pem", algorithm)
    ostree(repo, "init", "--mode=archive")
    (key,) = read_keys(f"spki={pem}")
    checksum = commit(repo, key)
    data = (repo / f"objects/{checksum[:2]}/{checksum[2:]}.commit").read_bytes()
    (signature,) = signatures(repo, checksum, "ostree.sign.spki")
    verify(pem, data, signature, tmp_path)
    judged_by_ostree(repo, checksum, "spki", key.public())


def test_what_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = ed25519_file(tmp_path / "good")
    secret, _ = raw(good.with_suffix(".pem"))
    texts = {
        "empty": b"", "short": base64.b64encode(secret), "mixed": base64.b64encode(secret + bytes(32)),
        "words": b"no base64!", "binary": b"\xff\0", "public": b"-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----",
        "broken": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "letters": b"-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----",
    }  # fmt: skip
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)
    for text, said in (
        ("gpg=x", "not a key to sign with"),
        ("ed25519=", "not a key to sign with"),
        (f"ed25519={tmp_path}/nowhere", "No such file"),
        (f"ed25519={tmp_path}/empty", "contains no secret key"),
        (f"ed25519={tmp_path}/short", "short:1: not a secret ed25519 key"),
        (f"ed25519={tmp_path}/mixed", "public half belongs to another key"),
        (f"ed25519={tmp_path}/words", "words:1: not a secret ed25519 key"),
        (f"ed25519={tmp_path}/binary", "it is not text"),
        (f"ed25519={good.with_suffix('.pem')}", "pem:1: not a secret ed25519 key"),
        (f"spki={good}", "contains no secret key"),
        (f"spki={tmp_path}/public", "contains a block PUBLIC KEY"),
        (f"spki={tmp_path}/broken", "OpenSSL cannot sign with this key"),
        (f"spki={tmp_path}/letters", "not PEM"),
    ):
        with pytest.raises(UsageError) as caught:
            read_keys(text)
        assert said in caught.value.message, text
    (key,) = read_keys(f"ed25519={good}")
    assert base64.b64encode(secret).decode() not in repr(key)
    assert "der" not in repr(key)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="openssl is not installed"):
        key.sign(b"x")
