"""A throw-away key, and signatures with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.universe.errors import run

SIGNER = "universe@example.invalid"
TIME = "20251009T090000"


class Key:
    """Made once in `directory` (secret.asc, public.asc), without a passphrase: it protects nothing."""

    def __init__(self, directory: Path) -> None:
        self._secret = directory / "secret.asc"
        self.public = directory / "public.asc"

    def ensure(self) -> None:
        if self.public.exists():
            return
        self._secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _home() as environment:
            _gpg(
                environment,
                "--faked-system-time",
                TIME,
                "--quick-generate-key",
                f"universe <{SIGNER}>",
                "ed25519",
                "sign",
                "never",
            )
            self._secret.unlink(missing_ok=True)
            _gpg(environment, "--armor", "--output", str(self._secret), "--export-secret-keys", SIGNER)
            _gpg(environment, "--armor", "--output", str(self.public), "--export", SIGNER)

    def sign(self, rpms: Sequence[Path]) -> None:
        if not rpms:
            return
        with _home() as environment:
            _gpg(environment, "--import", str(self._secret))
            options = ["--define", "_openpgp_sign gpg", "--define", f"_gpg_name {SIGNER}"]
            # the same package signed again is the same file
            options += ["--define", f"_gpg_sign_cmd_extra_args --faked-system-time {TIME}!"]
            run(["rpmsign", *options, "--addsign", *map(str, rpms)], what="signing", env=environment)


@contextmanager
def _home() -> Iterator[dict[str, str]]:
    """A GNUPGHOME with a path short enough for the agent's socket."""
    home = tempfile.mkdtemp(prefix="gpg-", dir="/tmp")
    environment = os.environ | {"GNUPGHOME": home}
    try:
        yield environment
    finally:
        run(["gpgconf", "--kill", "all"], what="gpg", env=environment)
        shutil.rmtree(home, ignore_errors=True)


def _gpg(environment: dict[str, str], *arguments: str) -> None:
    command = ["gpg", "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback", *arguments]
    run(command, what="the signing key", env=environment)
