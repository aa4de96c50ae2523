"""Programs that sign, what is kept of a history, and whose signatures stay when more come."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.cli.flags import signers_of
from compose.errors import UsageError
from compose.events import Reporter
from compose.ostree import signers
from compose.ostree.gvariant import Variant
from compose.ostree.prune import KEEP_ALL, Retention
from compose.ostree.sign import joined, parted
from compose.ostree.signers import GpgKey, SignCommand, parse_command, signed_by
from tests.support.told import Told


@pytest.mark.parametrize(
    ("text", "kind", "argv"),
    [
        ("sigul-sign", "gpg", ("sigul-sign",)),
        ("gpg=sign --key='a b'", "gpg", ("sign", "--key=a b")),
        ("ed25519=cloud sign; rm -rf /", "ed25519", ("cloud", "sign;", "rm", "-rf", "/")),
        ("spki=sign $HOME", "spki", ("sign", "$HOME")),
        ("env KEY=x sign", "gpg", ("env", "KEY=x", "sign")),
    ],
)
def test_commands_are_words_and_no_shell_reads_them(text: str, kind: str, argv: tuple[str, ...]) -> None:
    assert parse_command(text) == SignCommand(kind=kind, argv=argv)


@pytest.mark.parametrize("text", ["", "  ", "spki=", "sign 'unfinished"])
def test_what_is_no_command(text: str) -> None:
    with pytest.raises(UsageError, match="--sign-command"):
        parse_command(text)


def test_a_program_gets_the_bytes_and_what_it_writes_is_the_signature() -> None:
    data = bytes(range(64))
    assert signed_by(data, [parse_command("ed25519=cat")], Reporter()) == [("ostree.sign.ed25519", data)]
    with pytest.raises(UsageError, match="it has 63 bytes, but an ed25519 signature has 64"):
        parse_command("ed25519=cat").sign(data[1:])
    with pytest.raises(UsageError, match="it is armored"):
        parse_command("cat").sign(b"-----BEGIN PGP SIGNATURE-----\n")
    with pytest.raises(UsageError, match="failed with status 3") as caught:
        parse_command("sh -c 'echo no card >&2; exit 3'").sign(data)
    assert caught.value.details == ("no card",)


@pytest.mark.parametrize(("key", "named"), [(GpgKey("nokey", "gpg-key"), "gpg-key"), (GpgKey("nokey"), "--gpg-key")])
@pytest.mark.parametrize("installed", [True, False])
def test_a_key_that_is_missing_is_named_as_it_was_given(
    key: GpgKey, named: str, installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(tmp_path))
    if not installed:
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=rf"^{named}: gpg ") as caught:
        key.sign(b"data")
    assert installed or f"or leave {named} out" in (caught.value.hint or "")


@pytest.mark.parametrize(("keys", "commands"), [(["nokey"], []), ([], ["cat", "spki=/no/such --flag"])])
def test_what_cannot_sign_is_known_at_once(
    keys: list[str], commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"^--gpg-key: gpg cannot sign with nokey|no program /no/such$"):
        signers_of(keys, None, commands)


def test_a_user_learns_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()

    monkeypatch.setattr(signers, "_PATIENCE", 0.1)
    commands = [parse_command("spki=cat"), parse_command("spki=sh -c 'sleep 0.4; cat'")]
    assert signed_by(b"data", commands, told) == [("ostree.sign.spki", b"data")] * 2
    assert told.infos == ["still waiting for a signature (--sign-command: sh -c 'sleep 0.4; cat')"]


def test_a_program_need_not_read_what_it_gets() -> None:
    assert len(parse_command("ed25519=head -c 64 /dev/zero").sign(bytes(1 << 20))) == 64


def test_signatures_are_told_from_what_is_beside_them() -> None:
    signatures = Variant("aay", [b"1", b"2"])
    notes = (("note", Variant("s", "x")), ("ostree.sign.notes", Variant("s", "y")))
    rest, found = parted((("ostree.sign.ed25519", signatures), *notes))
    assert rest == notes
    assert found == [("ostree.sign.ed25519", b"1"), ("ostree.sign.ed25519", b"2")]
    there = (("ostree.sign.ed25519", Variant("aay", [b"2", b"3"])),)
    assert dict(joined(there, rest, found))["ostree.sign.ed25519"].value == [b"3", b"1", b"2"]


@given(st.integers(0, 9), st.integers(0, 100), st.none() | st.integers(1, 9), st.none() | st.integers(0, 100))
def test_whichever_rule_keeps_more(depth: int, when: int, commits: int | None, since: int | None) -> None:
    kept = Retention(commits=commits, since=since).keeps(depth, when)
    if commits is None and since is None:
        assert kept
    else:
        assert kept == any((depth == 0, commits is not None and depth < commits, since is not None and when >= since))
    assert KEEP_ALL.keeps(depth, when)


def test_what_is_no_array_takes_the_place_of_no_signatures() -> None:
    present = (("ostree.gpgsigs", Variant("aay", [b"one"])),)
    assert joined(present, (("ostree.gpgsigs", Variant("s", "x")),), ()) == present


def test_a_program_may_leave_another_behind() -> None:
    """As ssh does, which keeps its connection, and standard error with it."""
    begun = time.monotonic()
    assert SignCommand(kind="spki", argv=("sh", "-c", "sleep 20 >/dev/null & cat")).sign(b"data") == b"data"
    assert time.monotonic() - begun < 10


def test_a_program_that_never_ends_writing_is_stopped() -> None:
    with pytest.raises(UsageError, match="wrote more than"):
        parse_command("spki=yes").sign(b"data")


def test_all_that_a_program_says_at_the_end_is_told() -> None:
    command = SignCommand(kind="gpg", argv=("sh", "-c", "seq 200000 >&2; exit 3"))
    with pytest.raises(UsageError, match="status 3") as caught:
        command.sign(b"data")
    assert list(caught.value.details) == [str(each) for each in range(199_991, 200_001)]
