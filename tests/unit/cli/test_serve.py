"""The lines for a client."""

from __future__ import annotations

import pytest

from compose.cli.flags import Format
from compose.cli.serve import introduction
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.serve.offered import Offered
from compose.serve.server import Server


@pytest.mark.parametrize(
    ("signatures", "wanted"),
    [
        ((), "ostree remote add --no-gpg-verify preview"),
        (("gpg",), "ostree remote add --gpg-import=KEY.gpg preview"),
        (("ed25519",), "ostree remote add --no-gpg-verify --sign-verify=ed25519=file:KEY.pub preview"),
        (("gpg", "spki"), "ostree remote add --gpg-import=KEY.gpg --sign-verify=spki=file:KEY.pem preview"),
    ],
)
def test_of_a_repository(tmp_path, signatures, wanted):
    rows = [
        Offered(ref=ref, commit=digit * 64, version="1", signatures=signatures)
        for ref, digit in (("os/main", "a"), ("os/next", "b"))
    ]
    with Repo.create(str(tmp_path / "repo")) as repo, Server(repo, "127.0.0.1", 0, Reporter()) as server:
        lines = introduction(server, rows, Format.TEXT).splitlines()
        assert f"  {wanted} {server.url}" in lines
        assert f"  ostree remote add --no-gpg-verify preview {server.url}" in lines
        assert [line.split()[-1] for line in lines if "rebase" in line] == ["preview:os/main", "preview:os/next"]
        assert any(line.split() == ["os/main", "1", "a" * 64] for line in lines)
        assert f"http://10.0.2.2:{server.port}/" in "".join(lines)
