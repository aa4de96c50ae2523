"""Keys and signatures as GnuPG makes them, and which of them librpm takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose import openpgp
from compose.errors import TrustError
from compose.rpm.pgp import parse_keys
from compose.rpm.signature import Checked, Keyring, read_layout
from tests.support.rpmrepo import Keys, Package, address, build, run

WEAK = "allow-weak-digest-algos\n"
SUBKEY, SIGNATURE = 14, 2


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    keys = Keys()
    yield keys
    keys.close()


@pytest.fixture
def rpm(tmp_path: Path) -> Path:
    return build([Package("signed")], tmp_path)["signed"]


def check(rpm: Path, key_file: bytes) -> Checked:
    fd = os.open(rpm, os.O_RDONLY)
    try:
        return Keyring(parse_keys(key_file).keys).check(fd, "signed", read_layout(fd, "signed"))
    finally:
        os.close(fd)


def refusal(rpm: Path, key_file: bytes) -> TrustError:
    with pytest.raises(TrustError) as caught:
        check(rpm, key_file)
    return caught.value


def configure(keys: Keys, text: str) -> None:
    Path(keys.home, "gpg.conf").write_text(text)


@pytest.mark.parametrize("digest", ["SHA1", "MD5"])
def test_a_weak_digest(keys: Keys, rpm: Path, digest: str) -> None:
    keys.make(f"with-{digest}", algorithm="rsa2048")
    configure(keys, WEAK)
    keys.sign(rpm, f"with-{digest}", "--define", f"_gpg_digest_algo {digest.lower()}")
    configure(keys, "")
    error = refusal(rpm, keys.export(f"with-{digest}"))
    assert f"is signed by {keys.fingerprint(f'with-{digest}')[-16:]} with {digest}" in error.message
    assert "rpmsign --resign" in (error.hint or "")
    # what the hint says
    run("rpmsign", "--define", f"_gpg_name {address(f'with-{digest}')}", "--resign", str(rpm), GNUPGHOME=keys.home)
    assert check(rpm, keys.export(f"with-{digest}")).key


def test_a_key_that_is_certified_with_a_weak_digest(keys: Keys, rpm: Path) -> None:
    configure(keys, f"{WEAK}cert-digest-algo SHA1\n")
    keys.make("certified", algorithm="rsa2048")
    configure(keys, "")
    keys.sign(rpm, "certified")
    assert "certified with SHA-1" in refusal(rpm, keys.export("certified")).message


def test_a_key_that_expires(keys: Keys, rpm: Path) -> None:
    """What it signed before that stays good, as for rpm; what it signed afterwards never was."""
    early, late = "20200101T000000", "20200101T120000"
    keys.gpg("--faked-system-time", early, "--quick-generate-key", address("expiring"), "ed25519", "sign", "never")
    keys.sign(rpm, "expiring")
    assert check(rpm, keys.export("expiring")).key == keys.fingerprint("expiring")[-16:]
    keys.gpg("--faked-system-time", late, "--quick-set-expire", keys.fingerprint("expiring"), "seconds=90000")
    assert "expired" in refusal(rpm, keys.export("expiring")).message
    keys.gpg("--quick-set-expire", keys.fingerprint("expiring"), "seconds=4000000")
    assert check(rpm, keys.export("expiring")).key


def test_a_subkey_that_its_key_did_not_bind(keys: Keys, rpm: Path) -> None:
    """Anybody can put their key behind another (CVE-2021-3521), alone or with the binding of its own."""
    keys.make("victim")
    keys.make("mallory", usage="cert")
    keys.gpg("--quick-add-key", keys.fingerprint("mallory"), "ed25519", "sign", "never")
    keys.sign(rpm, "mallory")
    mallory = keys.export("mallory", armor=False)
    assert check(rpm, mallory).key
    packets = [(tag, whole) for tag, _, whole in openpgp.packets(mallory)]
    (at,) = (place for place, (tag, _) in enumerate(packets) if tag == SUBKEY)
    assert packets[at + 1][0] == SIGNATURE
    subkey, binding = packets[at][1], packets[at + 1][1]
    for smuggled in (subkey, subkey + binding):
        refusal(rpm, keys.export("victim", armor=False) + smuggled)
