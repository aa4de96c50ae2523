"""What mkcomposefs is told of a tree, and what is said when it cannot be asked."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from compose.cli.ending import Interrupted
from compose.errors import RepositoryError, UsageError
from compose.ostree.composefs import Node, dump, file_payload, image_digest, require_program

DIRECTORY, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
ROOT = Node(path="", uid=0, gid=0, mode=DIRECTORY)
TREE = (
    ROOT,
    Node(path="usr", uid=0, gid=0, mode=DIRECTORY, xattrs=((b"user.a =", b"\0\\=b"),)),
    Node(path="usr/a b\\\nß", uid=1, gid=2, mode=FILE | stat.S_ISUID),
    Node(path="usr/f", uid=0, gid=0, mode=FILE, size=5, payload=file_payload(b"\xab" * 32), verity=b"\xcd" * 32),
    Node(path="etc", uid=0, gid=0, mode=LINK, size=1, payload="-"),
)


def fake_program(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = directory / "mkcomposefs"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_lines() -> None:
    assert b"".join(dump(TREE)).decode().splitlines() == [
        "/ 0 40755 1 0 0 0 0.0 - - -",
        r"/usr 0 40755 1 0 0 0 0.0 - - - user.a\x20\x3d=\x00\x5c\x3db",
        r"/usr/a\x20b\x5c\x0a\xc3\x9f 0 104644 1 1 2 0 0.0 - - -",
        f"/usr/f 5 100644 1 0 0 0 0.0 ab/{'ab' * 31}.file - {'cd' * 32}",
        r"/etc 1 120777 1 0 0 0 0.0 \x2d - -",
        # what is mounted on, unless something has the name
        "/boot 0 40755 1 0 0 0 0.0 - - -",
        "/sysroot 0 40755 1 0 0 0 0.0 - - -",
        "/var 0 40755 1 0 0 0 0.0 - - -",
    ]


def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for attempt in (require_program, lambda: image_digest(TREE)):
        with pytest.raises(UsageError, match=r"ex-integrity\.composefs.*mkcomposefs is not installed") as caught:
            attempt()
        assert caught.value.hint == "install the package composefs"


def test_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_program(tmp_path, monkeypatch, f"cat >{tmp_path}/heard; echo {'0f' * 32}")
    assert image_digest(TREE) == b"\x0f" * 32
    assert (tmp_path / "heard").read_bytes() == b"".join(dump(TREE))


@pytest.mark.parametrize(
    ("program", "told"),
    [
        # composefs-rs has a program of the same name, whose images may be laid out otherwise
        (f"cat >/dev/null; echo {'0f' * 32}", ()),
        # before 1.0.3
        ("echo \"unrecognized option '--min-version=0'\" >&2; exit 1", ("unrecognized option '--min-version=0'",)),
    ],
)
def test_another_program_of_that_name(
    program: str, told: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, monkeypatch, program)
    with pytest.raises(UsageError, match="/mkcomposefs does not lay out composefs images as libostree does") as caught:
        require_program()
    assert caught.value.details == told


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("cat >/dev/null; echo 'cannot write file' >&2; exit 1", "cannot write file"),
        ("cat >/dev/null", "exit status 0"),
        ("cat >/dev/null; echo 0f0f", "exit status 0"),
        ("cat >/dev/null; kill -9 $$", "exit status -9"),
        # with most of the text unheard
        ("echo 'not so' >&2; exit 3", "not so"),
        # more than a pipe holds, before it reads anything
        ("yes 'not so' | head -100000 >&2; cat >/dev/null; exit 3", "not so"),
    ],
)
def test_its_failures(program: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_program(tmp_path, monkeypatch, program)
    many = (ROOT, *(Node(path=f"{number:0200}", uid=0, gid=0, mode=FILE) for number in range(10_000)))
    with pytest.raises(RepositoryError, match="cannot compute the composefs digest") as caught:
        image_digest(many)
    assert {*caught.value.details} == {told}


def test_an_interrupt_ends_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_program(tmp_path, monkeypatch, f"echo $$ >{tmp_path}/pid; exec sleep 600")

    def interrupt(_number: int, _frame: object) -> None:
        # what signals raise in a command
        raise Interrupted(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Interrupted):
            image_digest(TREE)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
