"""Package manifests in a few words, for tests of what is done with them."""

from __future__ import annotations

import hashlib
import stat
from typing import Any

from compose.rpm.manifest import (
    FileFlag,
    ManifestFile,
    PackageManifest,
    Script,
    ScriptKind,
    Scriptlet,
    Trigger,
    TriggerCondition,
    TriggerKind,
)
from compose.rpm.nevra import Nevra
from compose.tree import BlobRef


def file(path: str, content: str = "", mode: int = 0o644, **more: Any) -> ManifestFile:
    blob = BlobRef(digest=hashlib.sha256(content.encode()).hexdigest(), size=len(content), mode=0o644, mtime=0)
    return _entry(path, stat.S_IFREG | mode, **{"blob": blob, **more})


def directory(path: str, mode: int = 0o755, **more: Any) -> ManifestFile:
    return _entry(path, stat.S_IFDIR | mode, **more)


def link(path: str, target: str, **more: Any) -> ManifestFile:
    return _entry(path, stat.S_IFLNK | 0o777, target=target, **more)


def _entry(path: str, mode: int, **more: Any) -> ManifestFile:
    defaults: dict[str, Any] = {"user": "root", "group": "root", "mtime": 0, "flags": FileFlag(0)}
    return ManifestFile(path=path, mode=mode, **{**defaults, **more})


def package(name: str, *files: ManifestFile, scripts: dict[str, Script] | None = None, **more: Any) -> PackageManifest:
    """name-1-1.x86_64. scripts: of each kind, "post"."""
    return PackageManifest(
        nevra=Nevra(name=name, epoch=0, version="1", release="1", arch="x86_64"),
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        source_rpm="",
        build_time=0,
        size=0,
        header=bytes(8),
        files=tuple(sorted(files, key=lambda each: each.path)),
        scriptlets=tuple(Scriptlet(kind=ScriptKind(kind), script=each) for kind, each in (scripts or {}).items()),
        **more,
    )


def shell(body: str, **more: Any) -> Script:
    return Script(interpreter=("/bin/sh",), body=body, **more)


def trigger(kind: str, *watched: str, body: str = "true", priority: int = 1_000_000) -> Trigger:
    conditions = tuple(TriggerCondition(name=name, flags=0, version="") for name in watched)
    return Trigger(kind=TriggerKind(kind), conditions=conditions, script=shell(body), priority=priority)
