"""Layers and images made with the standard library's tarfile, for who reads them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """An entry, 0644 or 0755 of root, unless fields (of TarInfo) say otherwise."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.LNKTYPE, linkname=target)


def layer(*members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar stream. kind: a format of tarfile."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind, errors="surrogateescape") as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def write_layout(
    path: Path, layers: Iterable[bytes], *, packed: Iterable[bytes] | None = None, config: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An image without a tag. layers: tar streams. packed: as they lie there, gzipped by default. config: what else its
    configuration has, in place of what it would have. Returns its manifest."""
    streams = list(layers)
    blobs = [gzip.compress(each, mtime=0) for each in streams] if packed is None else list(packed)
    directory = path / "blobs/sha256"
    directory.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        digest = sha256(data)
        (directory / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    whole: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [sha256(each) for each in streams]},
        **(config or {}),
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(json.dumps(whole).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [put(each, LAYER) for each in blobs],
    }
    row = put(json.dumps(manifest).encode(), MANIFEST)
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return manifest
