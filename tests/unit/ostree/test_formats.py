"""Bytes of objects, configuration and names, against values the format's description gives."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from compose.errors import RepositoryError
from compose.ostree.config import Mode, parse_config
from compose.ostree.gvariant import Variant, encode
from compose.ostree.objects import (
    Commit,
    decode_commit,
    decode_dirtree,
    decode_filez_header,
    encode_commit,
    encode_dirtree,
    encode_xattrs,
    file_header,
    filez_header,
)
from compose.ostree.refs import validate_ref
from compose.ostree.summary import hash_order


def test_empty_dirtree_has_the_well_known_checksum() -> None:
    data = encode_dirtree((), ())
    assert hashlib.sha256(data).hexdigest() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_header_of_an_ordinary_file() -> None:
    header = file_header(0, 0, 0o100644, b"", b"")
    assert header == bytes.fromhex("0000001200000000" + "0000000000000000000081a400000000" + "00" + "11")


def test_filez_header_of_a_symlink() -> None:
    header = filez_header(0, 0, 0, 0o120777, b"../a", b"")
    assert header == bytes.fromhex("0000001e00000000" + "00" * 16 + "0000a1ff00000000" + "2e2e2f6100" + "1d")


def test_dirtree_is_read_back() -> None:
    files = ((b"a", bytes(32)), ("ß".encode(), b"\1" * 32))
    directories = ((b"d", b"\2" * 32, b"\3" * 32),)
    tree = decode_dirtree(encode_dirtree(files, directories))
    assert [name for name, _ in tree.files] == ["a", "ß"]
    assert tree.directories == (("d", b"\2" * 32, b"\3" * 32),)


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b""])
def test_names_that_lead_elsewhere_are_damage(name: bytes) -> None:
    with pytest.raises(ValueError, match="name"):
        decode_dirtree(encode_dirtree(((name, bytes(32)),), ()))


def test_commit_is_read_back() -> None:
    commit = Commit(
        metadata=(("version", Variant("s", "1")), ("n", Variant("t", 7))),
        parent=b"",
        subject="s",
        body="b",
        timestamp=1700000000,
        root_tree=b"\1" * 32,
        root_meta=b"\2" * 32,
    )
    again = decode_commit(encode_commit(commit))
    assert again == commit
    assert again.get("version") == "1"
    assert again.get("absent") is None
    assert decode_commit(encode_commit(commit), ("n", "absent")) == replace(commit, metadata=commit.metadata[1:])


def test_xattrs() -> None:
    assert encode_xattrs(()) == b""
    assert encode_xattrs(((b"user.a", b"1"),)) == b"user.a\x001\x07\x09"


@pytest.mark.parametrize("names", [[b"user.a", b"user.a"], [b""]])
def test_xattrs_that_clients_refuse(names: list[bytes]) -> None:
    with pytest.raises(ValueError, match="an empty or a repeated name"):
        encode_xattrs([(name, b"1") for name in names])


def test_filez_header_is_read_back() -> None:
    info, size = decode_filez_header(filez_header(7, 1, 2, 0o104755, b"", encode_xattrs(((b"user.a", b"1"),)))[8:])
    assert (info.uid, info.gid, info.mode, info.xattrs, info.target) == (1, 2, 0o104755, ((b"user.a", b"1"),), None)
    assert size == 7
    assert decode_filez_header(filez_header(0, 0, 0, 0o120777, b"a", b"")[8:])[0].target == "a"


@pytest.mark.parametrize("mode", [0o644, 0o040755, 0o020666, 0o1100644])
def test_modes_that_no_content_object_has(mode: int) -> None:
    with pytest.raises(ValueError, match=r"its mode [0-7]+ is not valid"):
        decode_filez_header(filez_header(0, 0, 0, mode, b"", b"")[8:])


def test_a_content_object_is_no_device() -> None:
    header = bytearray(filez_header(0, 0, 0, 0o100644, b"", b"")[8:])
    header[23] = 1
    with pytest.raises(ValueError, match="header of a device"):
        decode_filez_header(bytes(header))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_checksums_of_another_size_are_damage(size: int) -> None:
    good, bad = bytes(32), bytes(size)
    for tree in (([("f", bad)], []), ([], [("d", bad, good)]), ([], [("d", good, bad)])):
        with pytest.raises(ValueError, match="32 bytes"):
            decode_dirtree(encode("(a(say)a(sayay))", tree))
    commit = Commit(metadata=(), parent=b"", subject="", body="", timestamp=0, root_tree=good, root_meta=good)
    # the first commit has no parent
    for field in ("root_tree", "root_meta", "parent") if size else ("root_tree", "root_meta"):
        with pytest.raises(ValueError, match="32 bytes"):
            decode_commit(encode_commit(replace(commit, **{field: bad})))


def test_hash_order_of_the_summary() -> None:
    # as `ostree summary -u` writes them
    keys = ["ostree.summary.last-modified", "ostree.summary.mode", "ostree.summary.tombstone-commits"]
    assert hash_order([*keys, "ostree.summary.indexed-deltas"]) == [
        "ostree.summary.mode",
        "ostree.summary.last-modified",
        "ostree.summary.tombstone-commits",
        "ostree.summary.indexed-deltas",
    ]


def test_hash_order_keeps_every_key() -> None:
    keys = [f"key-{number}" for number in range(200)]
    assert sorted(hash_order(keys)) == sorted(keys)


def test_config() -> None:
    config = parse_config(
        "# comment\n[core]\nrepo_version=1\nmode=archive\nfsync=false\nlock-timeout-secs=5\nmin-free-space-size=2GB\n"
        'auto-update-summary=true\n[archive]\nzlib-level=12\n[remote "x"]\nurl=http://example.com/?a=b\n'
        "\n  [core]\n fsync = true\nfsync= false \n",
        "config",
    )
    assert config.mode is Mode.ARCHIVE
    assert not config.fsync
    assert config.lock_timeout == 5
    assert config.min_free_bytes == 2 << 30
    assert config.auto_update_summary
    assert config.zlib_level == 9


@pytest.mark.parametrize(
    ("lines", "small", "large"),
    [
        # libostree 2026.6 (ostree-repo.c, reload_core_config()): of both limits the smaller one
        ("", 3, 1 << 10),
        ("min-free-space-percent=5", 5, 50_000),
        ("min-free-space-percent=0", 0, 0),
        ("min-free-space-size=2GB", 2 << 10, 2 << 10),
        ("min-free-space-size=0MB", 0, 0),
        ("min-free-space-size=2GB\nmin-free-space-percent=5", 5, 2 << 10),
        ("min-free-space-size=0MB\nmin-free-space-percent=5", 5, 50_000),
    ],
)
def test_space_to_keep_free(lines: str, small: int, large: int) -> None:
    """Of disks of 100 MiB and 1,000,000 MiB, in MiB."""
    config = parse_config(f"[core]\nmode=bare\n{lines}\n", "config")
    assert config.least_free(100 << 20) == small << 20
    assert config.least_free(1_000_000 << 20) == large << 20
    # ramfs does not tell
    assert config.least_free(0) == 0


@pytest.mark.parametrize("value", ["yes", "true", "1", "maybe", "no", "false", "0", None])
def test_switches_with_three_positions(value: str | None) -> None:
    line = "" if value is None else f"composefs={value}"
    config = parse_config(f"[core]\nmode=bare\n[ex-integrity]\n{line}\n", "config")
    assert config.composefs is (value in ("yes", "true", "1", "maybe"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a repository configuration"),
        ("mode=archive", "/repo/config:1: not a repository configuration"),
        ("[core]\nmode=bare\n[other\n", "/repo/config:3: not a repository configuration"),
        ("[core]\nmode=odd\n", "core.mode=odd"),
        ("[core]\nmode=bare\nrepo_version=2\n", "version 2"),
        ("[core]\nmode=bare\nfsync=perhaps\n", "core.fsync"),
        ("[core]\nmode=bare\nlock-timeout-secs=x\n", "core.lock-timeout-secs"),
        ("[core]\nmode=bare\nmin-free-space-size=2\n", "min-free-space-size"),
        ("[core]\nmode=bare\nmin-free-space-size=\u00b2GB\n", "min-free-space-size"),
        (f"[core]\nmode=bare\nmin-free-space-size={'9' * 5000}GB\n", "min-free-space-size"),
        (f"[core]\nmode=bare\nmin-free-space-percent={'9' * 400}\n", "min-free-space-percent must be .* 0 to 99"),
        ("[core]\nmode=bare\nmin-free-space-percent=-1\n", "min-free-space-percent"),
        (
            "[core]\nmode=bare\n[ex-integrity]\ncomposefs=on\n",
            "ex-integrity.composefs must be one of yes, .*, not 'on'",
        ),
        ("[core]\nmode=bare\n[ex-integrity]\ncomposefs=\n", "ex-integrity.composefs"),
    ],
)
def test_config_faults_name_the_key(text: str, message: str) -> None:
    with pytest.raises(RepositoryError, match=message):
        parse_config(text, "/repo/config")


@pytest.mark.parametrize("name", ["fedora/x86_64/minimal", "a", "os/40.1_x-y"])
def test_valid_refs(name: str) -> None:
    validate_ref(name)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../x", "a/.x", "-a", "0" * 64, "a b", "a\n"])
def test_invalid_refs(name: str) -> None:
    with pytest.raises(RepositoryError, match="not a valid ref"):
        validate_ref(name)
