"""Readers of what machines write: packages, objects of repositories, keys, records, images, account files."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

from compose import initramfs
from compose.assemble.accounts import declared_ids, parse_ids
from compose.blobs import BlobStore
from compose.extensions import parse_extensions
from compose.importer.unpack import unpack_rpm
from compose.lock.ids import parse_ids as parse_id_lock
from compose.oci.chunking import previous_layers
from compose.oci.difference import parse_manifest
from compose.oci.documents import parse
from compose.oci.existing import parse_config, seconds
from compose.oci.index import choose, digest_in, parse_index, pick
from compose.oci.reference import parse_reference, parse_source
from compose.ostree.config import parse_config as parse_repo_config
from compose.ostree.delta.layout import PartHeader, encode_superblock, replace_detached, signed_superblock
from compose.ostree.gvariant import Variant, decode, encode
from compose.ostree.objects import (
    Commit,
    decode_commit,
    decode_dirmeta,
    decode_dirtree,
    decode_filez_header,
    decode_xattrs,
    encode_commit,
    encode_dirmeta,
    encode_dirtree,
    encode_xattrs,
    filez_header,
)
from compose.pipeline import facts
from compose.postprocess.drift import parse_entries
from compose.postprocess.nsswitch import services, with_altfiles
from compose.postprocess.tmpfilesd import created_paths, paths
from compose.records import Records, Run
from compose.records import decode as decode_records
from compose.records import encode as encode_records
from compose.rpm.capabilities import capability_xattr
from compose.rpm.nevra import Nevra
from compose.rpm.pgp import BadKey, parse_keys
from compose.rpm.richdeps import rich_words
from compose.serve.paths import parse_target
from compose.supplychain.model import os_release
from tests.fuzz.target import Target
from tests.support.rpmmaker import Member, RpmMaker, directory, newc_entry, symlink

_MEMBERS = [directory("/usr"), Member("/usr/f", b"1" * 600), Member("/usr/g", b""), symlink("/usr/l", "f")]
_REFUSED = (ValueError,)


def text_of(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """A reader of text that was decoded as the text of a tree is."""
    return lambda data: read(data.decode(errors="surrogateescape"))


def archive_targets(scratch: Path) -> list[Target]:
    """Payloads of packages; header and digests fit them, as an attacker's do."""

    def reader(stripped: bool, compressed: bool) -> Callable[[bytes], object]:
        path = scratch / f"{stripped}-{compressed}.rpm"
        blobs = BlobStore(str(scratch / "blobs"))

        def read(data: bytes) -> None:
            maker = RpmMaker(_MEMBERS, stripped=stripped, compressor="zstd" if compressed else "")
            if compressed:
                maker.change_payload = lambda _: data
            else:
                maker.change_archive = lambda _: data
            path.write_bytes(maker.build())
            unpack_rpm(str(path), "00" * 32, blobs)

        return read

    return [
        Target("cpio archive of a package", reader(False, False), [RpmMaker(_MEMBERS).archive()]),
        Target("its short form", reader(True, False), [RpmMaker(_MEMBERS, stripped=True).archive()]),
        Target("initramfs", lambda data: list(initramfs.files(data)), _initramfs(), _REFUSED),
        Target("compressed payload", reader(False, True), [b"(\xb5/\xfd" + bytes(20)]),
    ]


def _initramfs() -> list[bytes]:
    archive = newc_entry(b"./usr/a", 0o100644, b"1") + newc_entry(b"TRAILER!!!", 0, b"")
    return [archive + bytes(512) + compress(archive) for compress in (gzip.compress, lzma.compress)]


def object_targets() -> list[Target]:
    """Metadata objects, headers and deltas."""
    xattrs = encode_xattrs([(b"security.selinux", b"a:b:c\0"), (b"user.x", b"")])
    dirtree = encode_dirtree([(b"f", bytes(32)), (b"g", b"\1" * 32)], [(b"d", bytes(32), b"\2" * 32)])
    commit = encode_commit(
        Commit(
            metadata=(("version", Variant("s", "1")), ("ostree.ref-binding", Variant("as", ["a", "b"]))),
            parent=bytes(32),
            subject="s",
            body="b",
            timestamp=1,
            root_tree=bytes(32),
            root_meta=bytes(32),
        )
    )
    detached = encode("a{sv}", [("ostree.gpgsigs", Variant("aay", [b"x"]))])
    part = PartHeader(data=None, checksum=bytes(32), size=3, unpacked=9, objects=b"F" + bytes(32))
    delta = encode_superblock(
        source=None, target="ab" * 32, commit=commit, detached=detached, parts=[part], fallbacks=[]
    )

    def read_superblock(data: bytes) -> None:
        inner = signed_superblock(data)
        replace_detached(data if inner is None else inner, detached)

    return [
        Target("commit", decode_commit, [commit], _REFUSED),
        Target("dirtree", decode_dirtree, [dirtree], _REFUSED),
        Target("dirmeta", decode_dirmeta, [encode_dirmeta(0, 0, 0o40755, xattrs)], _REFUSED),
        Target("xattrs", decode_xattrs, [xattrs], _REFUSED),
        Target("header of a file", decode_filez_header, [filez_header(5, 0, 0, 0o100644, b"", xattrs)[8:]], _REFUSED),
        Target("superblock of a delta", read_superblock, [delta], _REFUSED),
        Target(
            "summary",
            lambda data: decode("(a(s(taya{sv}))a{sv})", data),
            [b"\0" * 16, dirtree, commit],
            _REFUSED,
        ),
        Target(
            "repository config",
            text_of(lambda text: parse_repo_config(text, "config")),
            [
                b"[core]\nrepo_version=1\nmode=archive-z2\nfsync=false\nmin-free-space-size=1GB\n"
                b'[remote "a"]\nurl=x\n[archive]\nzlib-level=6\n[ex-integrity]\ncomposefs=maybe\n'
            ],
        ),
    ]


def document_targets() -> list[Target]:
    """Keys, records, and JSON of images."""
    digest = f"sha256:{'ab' * 32}"
    manifest = {
        "schemaVersion": 2,
        "config": {"digest": digest, "size": 1},
        "layers": [{"digest": digest, "size": 2, "annotations": {"ostree.components": "a,b"}}] * 2,
    }
    index = {"manifests": [{"digest": digest, "size": 3, "annotations": {"org.opencontainers.image.ref.name": "t"}}]}
    run = Run(owner="package:a", phase="%post", status=0, seconds=1.0, changed=("usr/a",))
    records = encode_records(Records(writers={"usr/a": "package:a", "usr/b": "step:x"}, programs=(run,)))
    nevra = Nevra(name="a", epoch=1, version="2", release="3", arch="x86_64")

    def read_index(data: bytes) -> None:
        digest_in(choose(parse_index(data, "x"), "t", "x"), "x")
        pick(data, "x")

    def read_manifest(data: bytes) -> None:
        found = parse_manifest(data, "x")
        parse_config(found, lambda _: data, "x")
        previous_layers(found, "x")

    def references(text: str) -> None:
        parse_reference(text)
        parse_source(text)

    return [
        Target("index of an image", read_index, [json.dumps(index).encode()]),
        Target("manifest of an image", read_manifest, [json.dumps(manifest).encode()]),
        Target("JSON of an image", parse, [b'{"a": [1, 2.5e3, null, "\\u00e4"]}'], _REFUSED),
        Target("name of an image", text_of(references), [b"oci:/a/b:tag", b"docker://x.example/y@sha256:00"]),
        Target("time in an image", text_of(seconds), [b"2026-01-01T00:00:00Z", b"1970-01-01T00:00:00.5+23:59"]),
        Target("record of a commit", decode_records, [records], _REFUSED),
        Target(
            "facts of a compose",
            lambda data: facts.decode(data, "x"),
            [facts.encode(facts.Facts(packages=(nevra,), epoch=5, version="1"))],
        ),
        Target("OpenPGP keys", parse_keys, [_openpgp()], (BadKey,)),
        Target(
            "extensions",
            lambda data: parse_extensions(data, "x.yaml"),
            [b"extensions:\n  a:\n    packages: [b]\n    architectures: [x86_64]\n    match-base-evr: c\nrepos: [r]\n"],
        ),
        Target(
            "id lock",
            lambda data: parse_id_lock(data, "x.yaml"),
            [b"compose-ids: 1\nusers:\n  a: 1\n  b: 2\ngroups:\n  a: 1\n"],
        ),
        Target(
            "path of a request",
            text_of(parse_target),
            [b"/objects/ab/" + b"cd" * 31 + b".filez", b"/refs/heads/a/b", b"/deltas/ab/c-d/0", b"/summary.sig?x=1"],
        ),
    ]


def _openpgp() -> bytes:
    """A public key packet of version 4, a user ID and a subkey, in the new format."""
    key = b"\x04\0\0\0\1\x16\x09" + bytes(60)
    return b"".join(bytes([0xC0 | tag, len(body)]) + body for tag, body in ((6, key), (13, b"a <a@b>"), (14, key)))


def text_targets() -> list[Target]:
    """Files in a tree, which any package can write."""

    def accounts(data: bytes) -> None:
        text = data.decode(errors="surrogateescape")
        parse_ids(data)
        for database in ("passwd", "group"):
            parse_entries(database, text)
        declared_ids((text,))

    def nsswitch(text: str) -> None:
        services(text, "passwd")
        with_altfiles(text)

    def tmpfiles(text: str) -> None:
        list(created_paths(text))
        list(paths(text))

    return [
        Target(
            "account file", accounts, [b"root:x:0:0:root:/root:/bin/sh\na:x:1:2::/:/x\n", b'u a 5:6 "A" /x\nm a b\n']
        ),
        Target("nsswitch.conf", text_of(nsswitch), [b"passwd: files [SUCCESS=merge !NOTFOUND=return] systemd # x\n"]),
        Target("tmpfiles.d", text_of(tmpfiles), [b'd /var/a 0755 root root - -\nL+ "/x y\\x20" - - - - ../z\n']),
        Target("os-release", text_of(os_release), [b"ID=a\nNAME=\"A b\"\n#x\nVERSION_ID='1'\n"]),
        Target("capabilities", text_of(capability_xattr), [b"cap_net_raw,cap_chown=ep", b"=", b"1,2+eip"], _REFUSED),
        Target("rich dependency", text_of(rich_words), [b"((a >= 1 or b) if c else (d with e))"]),
    ]


def binary_targets(scratch: Path) -> list[Target]:
    """All of them."""
    return [*archive_targets(scratch), *object_targets(), *document_targets(), *text_targets()]
