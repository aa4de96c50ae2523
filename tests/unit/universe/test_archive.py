"""What apt prints and what its sources say."""

from __future__ import annotations

from pathlib import Path

from tests.universe import archive
from tests.universe.archive import Deb, Lock
from tests.universe.deb import merged, parse_control


def test_uris_have_the_name_in_the_archive() -> None:
    text = (
        "Reading...\n'http://m.example/pool/v/vim_2%3a9.1-2_all.deb' vim_9.1.deb 12 MD5Sum:x\n"
        "'http://m.example/a_1.deb' a 3 \n"
    )
    assert archive.parse_uris(text) == [
        ("http://m.example/a_1.deb", "a_1.deb", 3),
        ("http://m.example/pool/v/vim_2%3a9.1-2_all.deb", "vim_2:9.1-2_all.deb", 12),
    ]


def test_index() -> None:
    digest = "0" * 64
    text = f"Package: a\nFilename: pool/a_1.deb\nSHA256: {digest}\n\nPackage: b\nFilename: pool/b.deb\n"
    assert archive.parse_index(text) == {"a_1.deb": digest}


def test_sources_of_both_forms() -> None:
    lines = (
        "# deb http://no.example x main\n"
        "deb [signed-by=/k] http://one.example/debian/ trixie main contrib\n"
        "deb http://sec.example/ trixie-security main\n"
        "deb-src http://src.example/ trixie main\n"
    )
    assert archive.parse_sources(lines) == ["http://one.example/debian"]
    stanzas = (
        "Types: deb deb-src\nURIs: http://two.example/debian/\nSuites: sid\nComponents: main\n\n"
        "Types: deb\nURIs: http://sec.example\nSuites: trixie-security\nComponents: main\n"
    )
    assert archive.parse_sources(stanzas) == ["http://two.example/debian"]


def test_a_lock_is_read_as_it_was_written(tmp_path: Path) -> None:
    lock = Lock("trixie", ("bash",), (Deb("bash", "http://m.example/bash.deb", "bash.deb", 5, "0" * 64),))
    path = tmp_path / "lock.json"
    assert Lock.load(path) is None
    lock.save(path)
    loaded = Lock.load(path)
    assert loaded is not None
    assert (loaded.suite, tuple(loaded.roots), loaded.debs) == (lock.suite, lock.roots, lock.debs)


def test_roots_may_be_commented(tmp_path: Path) -> None:
    path = tmp_path / "set.txt"
    path.write_text("# all\na b # c\n\nd\n")
    assert archive.read_roots(path) == ("a", "b", "d")


def test_merged_usr() -> None:
    paths = {
        "/bin/sh": "/usr/bin/sh",
        "lib": "usr/lib",
        "/lib64/x": "/usr/lib64/x",
        "/binary": "/binary",
        "/usr/bin": "/usr/bin",
    }
    assert {path: merged(path) for path in paths} == paths


def test_control_fields_keep_their_lines() -> None:
    text = "Package: a\nDescription: short\n long\n .\n  more\nDepends: x,\n\ty\n"
    assert parse_control(text) == {
        "Package": "a",
        "Description": "short\nlong\n.\n more",
        "Depends": "x,\ny",
    }
