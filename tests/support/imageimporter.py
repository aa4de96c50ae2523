"""A reader of image layers that demands what ostree-ext's importer demands (tar/import.rs, container/store.rs), and says no
to the rest: order of entries, where sizes and owners are, which objects are in which layer, checksums of all of them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose.ostree.objects import decode_commit, decode_dirtree, file_header

_PREFIX = "sysroot/ostree/repo/"
_MOST_METADATA = 10 << 20
_MOST_XATTRS = 1 << 20
_NO_CHECKSUM = 62


@dataclass(frozen=True, slots=True)
class Entry:
    """kind: "file", "dir", "link" or "symlink". pax: xattrs that unpackers set. data: of a file."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    target: str
    data: bytes
    pax: dict[str, bytes]


def entries(stream: bytes) -> Iterator[Entry]:
    """Of a tar stream; sizes and owners are those of the header itself, as tar-rs's Header has them."""
    place, name, target, pax = 0, None, None, {}
    while (block := stream[place : place + 512]) != bytes(512):
        assert len(block) == 512, "the stream ends without its two blocks of zeros"
        assert int(block[148:154], 8) == sum(block[:148]) + sum(block[156:]) + 8 * 32, "a checksum of a header"
        assert block[257:265] in (b"ustar\x0000", b"ustar  \0")
        size = _number(block[124:136])
        data = stream[place + 512 : place + 512 + size]
        assert len(data) == size, "an entry is cut off"
        place += 512 + -(-size // 512) * 512
        assert not any(stream[place - (-size % 512) : place]), "padding is not zeros"
        match block[156:157]:
            case b"L":
                assert name is None
                name = data.rstrip(b"\0").decode()
            case b"K":
                assert target is None
                target = data.rstrip(b"\0").decode()
            case b"x":
                assert not pax
                pax = _pax(data)
            case kind:
                assert not _number(block[136:148]), "a time that is not 0"
                prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
                yield Entry(
                    name=name or (f"{prefix}/" if prefix else "") + _text(block[:100]),
                    kind={b"0": "file", b"1": "link", b"2": "symlink", b"5": "dir"}[kind],
                    mode=_number(block[100:108]),
                    uid=_number(block[108:116]),
                    gid=_number(block[116:124]),
                    target=target or _text(block[157:257]),
                    data=data,
                    pax=pax,
                )
                name, target, pax = None, None, {}
    assert stream[place:] == bytes(1024), "what stands behind the end"


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode()


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field, "big") ^ (0x80 << 8 * (len(field) - 1))
    return int(field.rstrip(b"\0 ") or b"0", 8)


def _pax(data: bytes) -> dict[str, bytes]:
    found = {}
    while data:
        length, _, rest = data.partition(b" ")
        record, data = data[: int(length)], data[int(length) :]
        assert record.endswith(b"\n")
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        # tar-rs takes size and owner of these too, ostree-ext does not: there must be none
        assert key.startswith(b"SCHILY.xattr."), key
        found[key.decode()[13:]] = value
        assert rest
    return found


@dataclass(slots=True)
class Imported:
    """commit: checksum. files: file objects, by the number of their layer. visible: last entry of each path that containers
    see. objects: (checksum, kind) of metadata."""

    commit: str = ""
    detached: bytes = b""
    files: list[set[str]] = field(default_factory=list)
    metadata: dict[tuple[str, str], bytes] = field(default_factory=dict)
    visible: dict[str, Entry] = field(default_factory=dict)


def import_image(layout: Path, tag: str | None = None) -> Imported:
    """Import an image of a layout as a client does. AssertionError for what a client refuses."""
    manifest, config = read_image(layout, tag)
    layers, diffids = manifest["layers"], config["rootfs"]["diff_ids"]
    labels = config["config"]["Labels"]
    assert manifest["annotations"] == {key: labels[key] for key in manifest["annotations"]}
    assert len(layers) == len(diffids) == len(config["history"])
    last = layers[diffids.index(labels["ostree.final-diffid"])]
    assert [each["digest"] for each in layers].count(last["digest"]) == 1, "Multiple entries for the last layer"
    assert last is layers[-1], "a derived layer"
    assert "annotations" not in layers[0]
    found = Imported()
    for number, (layer, diffid) in enumerate(zip(layers, diffids, strict=True)):
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
        stream = zlib.decompress(blob(layout, layer), 31)
        assert f"sha256:{hashlib.sha256(stream).hexdigest()}" == diffid
        _import_layer(found, stream, first=number == 0)
        assert number == 0 or "ostree.components" in layer["annotations"]
    assert found.commit == labels["ostree.commit"]
    _check_whole(found)
    return found


def read_image(layout: Path, tag: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and configuration."""
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_text())
    (row,) = [
        each
        for each in index["manifests"]
        if each.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag
    ]
    manifest = json.loads(blob(layout, row))
    return manifest, json.loads(blob(layout, manifest["config"]))


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    algorithm, _, digest = descriptor["digest"].partition(":")
    data = (layout / "blobs" / algorithm / digest).read_bytes()
    assert len(data) == descriptor["size"]
    assert hashlib.sha256(data).hexdigest() == digest
    return data


def _import_layer(found: Imported, stream: bytes, *, first: bool) -> None:
    xattrs: tuple[str, bytes] | None = None
    mine: set[str] = set()
    there: set[str] = set()
    order: list[str] = []
    for each in entries(stream):
        if each.kind == "link":
            assert each.target in there, f"{each.name}: a hard link to what comes later, or not at all"
        if each.kind != "dir":
            there.add(each.name)
        if not each.name.startswith(_PREFIX):
            found.visible[each.name.removeprefix("./")] = each
            continue
        path = each.name.removeprefix(_PREFIX)
        if each.kind == "dir" or path == "config" or path.startswith("refs"):
            continue
        assert path.startswith("objects/"), path
        checksum, kind = _object(path)
        order.append(kind)
        if kind == "file-xattrs-link":
            assert xattrs is None, "Found previous dangling xattrs"
            # what the newest ostree-ext writes; a hard link would do as well
            assert each.kind == "file"
            assert len(each.data) <= _MOST_XATTRS
            xattrs = checksum, each.data
        elif kind == "file":
            assert xattrs is not None, "Missing xattrs reference"
            assert xattrs[0] == checksum, "Object mismatch"
            assert checksum not in mine, "Duplicate object"
            mine.add(checksum)
            assert _checksum(each, xattrs[1]) == checksum
            xattrs = None
        else:
            assert first, f"Found metadata object {checksum}.{kind} in object set mode"
            assert each.kind == "file"
            assert len(each.data) <= _MOST_METADATA
            assert (each.uid, each.gid, each.mode) == (0, 0, 0o644)
            if kind == "commitmeta":
                assert order == ["commit", "commitmeta"]
                assert checksum == found.commit
                found.detached = each.data
                continue
            assert hashlib.sha256(each.data).hexdigest() == checksum
            if kind == "commit":
                assert order == ["commit"], "Expected commit object, or found multiple ones"
                found.commit = checksum
            found.metadata[checksum, kind] = each.data
    assert xattrs is None
    found.files.append(mine)


def _object(path: str) -> tuple[str, str]:
    _, parent, name = path.split("/")
    rest, _, kind = name.partition(".")
    assert len(parent) == 2
    assert len(rest) == _NO_CHECKSUM
    return parent + rest, kind


def _checksum(entry: Entry, xattrs: bytes) -> str:
    assert not entry.mode & ~0o7777
    target, mode = b"", 0o100000 | entry.mode
    if entry.kind == "symlink":
        # ostree makes all links of this mode
        target, mode = entry.target.encode(), 0o120777
    else:
        assert entry.kind == "file"
    return hashlib.sha256(file_header(entry.uid, entry.gid, mode, target, xattrs) + entry.data).hexdigest()


def _check_whole(found: Imported) -> None:
    """Everything that the commit needs is there, and nothing else."""
    commit = decode_commit(found.metadata[found.commit, "commit"])
    needed, files = {(found.commit, "commit"), (commit.root_meta.hex(), "dirmeta")}, set()
    pending = [commit.root_tree.hex()]
    while pending:
        checksum = pending.pop()
        if (checksum, "dirtree") in needed:
            continue
        needed.add((checksum, "dirtree"))
        tree = decode_dirtree(found.metadata[checksum, "dirtree"])
        files |= {content.hex() for _, content in tree.files}
        for _, below, meta in tree.directories:
            needed.add((meta.hex(), "dirmeta"))
            pending.append(below.hex())
    assert needed == found.metadata.keys()
    assert files == set().union(*found.files)
    assert sum(map(len, found.files)) == len(files), "an object is in two layers"
