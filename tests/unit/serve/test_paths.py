"""What may be asked for, and what may not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.serve.paths import Kind, parse_target

HEX = "0123456789abcdef" * 4
OBJECT = f"{HEX[:2]}/{HEX[2:]}"
NAME = base64.b64encode(bytes.fromhex(HEX)).decode().rstrip("=").replace("/", "_")
OTHER = base64.b64encode(b"\xff" * 32).decode().rstrip("=").replace("/", "_")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/config", Kind.CONFIG),
        ("/summary", Kind.SUMMARY),
        ("/summary.sig?nocache=1", Kind.SUMMARY),
        ("/refs/heads/fedora/x86_64/minimal-1.0", Kind.REF),
        ("/refs/heads/fedora%2Fx86_64%2Fminimal", Kind.REF),
        ("/refs/heads/gr%C3%BCn", Kind.REF),
        ("/refs/mirrors/org.example.Os/stable", Kind.REF),
        (f"/objects/{OBJECT}.dirtree", Kind.OBJECT),
        (f"/objects/{OBJECT}.filez", Kind.OBJECT),
        (f"/deltas/{NAME[:2]}/{NAME[2:]}/superblock", Kind.DELTA),
        (f"/deltas/{OTHER[:2]}/{OTHER[2:]}-{NAME}/12", Kind.DELTA),
        (f"/deltas/{NAME[:2]}/{NAME[2:]}/superblock".replace("+", "%2B"), Kind.DELTA),
        (f"/delta-indexes/{NAME[:2]}/{NAME[2:]}.index", Kind.INDEX),
    ],
)
def test_served(target: str, kind: Kind) -> None:
    found = parse_target(target)
    assert found is not None
    assert found.kind is kind


def test_which_commit_it_belongs_to() -> None:
    for target in (
        f"/objects/{OBJECT}.commit",
        f"/deltas/{NAME[:2]}/{NAME[2:]}/superblock",
        f"/deltas/{OTHER[:2]}/{OTHER[2:]}-{NAME}/0",
    ):
        found = parse_target(target)
        assert found is not None
        assert found.commit == HEX


@pytest.mark.parametrize(
    "target",
    [
        *("", "/", "//config", "config", "/config/", "/./config", "/.lock", "/tmp/", "/tmp/cache/summaries/x", "*"),
        *(f"/state/{HEX}.commitpartial", "/extensions/compose/x", "/refs/heads", "/refs/heads/", "/refs/remotes/a/b"),
        *("/refs/heads/../../config", "/refs/heads/%2e%2e/%2e%2e/config", "/refs/heads/a/../b", "/refs/heads/a//b"),
        *("/refs/heads/.hidden", "/refs/heads/a%00b", "/refs/heads/a\n", "/refs/heads/a%0a"),
        *("/refs/heads/a%252fb", "/refs/heads/" + "a" * 2000, "/refs/heads/%ff"),
        *(f"/objects/{OBJECT}.file", f"/objects/{OBJECT.upper()}.commit", f"/objects/{OBJECT}.commit.tmp"),
        *(f"/objects/{HEX}.commit", "/objects/ab/", f"/objects/{OBJECT}", f"/objects/{OBJECT}.filez%00"),
        *(f"/deltas/{NAME[:2]}/{NAME[2:]}/", f"/deltas/{NAME[:2]}/{NAME[2:]}/meta", "/deltas/ab/cd/superblock"),
        *("http://127.0.0.1/config", "/summary.idx", "/config%3Fx"),
    ],
)
def test_not_served(target: str) -> None:
    assert parse_target(target) is None


@given(st.text(alphabet="/.%2efconigrhads\0\\-", max_size=40))
def test_nothing_leads_out(text: str) -> None:
    found = parse_target(f"/refs/heads/{text}")
    if found is not None:
        parts = found.path.split("/")
        assert all(part and part[0] != "." for part in parts)
        assert "\0" not in found.path
