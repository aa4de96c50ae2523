"""Manifests on disk: the importer's cache between composes.

    CACHEDIR/manifests/SHA256.VERSION    sha256 of the RPM file, version of the importer

    magic with that version, length of the facts (8 bytes, big-endian), the facts as JSON, the RPM header, sha256 of all

The name covers everything that a manifest depends on, so it is never stale; the digest at its end shows that it is
complete. Its mtime is the time of its last use.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import struct
import tempfile
import time
from contextlib import suppress
from typing import Any

from compose.blobs import BlobStore, plain_mode
from compose.errors import StorageError
from compose.fs import replace, storage_error, storage_errors
from compose.rpm.manifest import (
    ManifestFile,
    PackageManifest,
    Script,
    ScriptKind,
    Scriptlet,
    Trigger,
    TriggerCondition,
    TriggerKind,
    file_flag,
)
from compose.rpm.nevra import Nevra
from compose.tree import BlobRef

# Increase it whenever an RPM gives another manifest or other blobs than before.
IMPORTER_VERSION = 2

_MAGIC = b"compose manifest %d\n" % IMPORTER_VERSION
_LENGTH = struct.Struct(">Q")
_PREFIX = len(_MAGIC) + _LENGTH.size
_DIGEST_SIZE = hashlib.sha256().digest_size
_MAX_SIZE = 1 << 30
_TEMPORARY = ".new-"
# A temporary file older than this many seconds is a leftover of a killed process.
_WRITTEN_WITHIN = 3600.0


class ImportCache:
    """Manifests in a directory, with their files' contents in a blob store. May be used by many processes at once.

    hits: how many packages of the last import were cached. Raises StorageError if the directory cannot be created.
    """

    def __init__(self, manifests: str, blobs: BlobStore) -> None:
        self.manifests = os.path.abspath(manifests)
        self.blobs = blobs
        self.hits = 0
        try:
            os.makedirs(self.manifests, mode=0o700, exist_ok=True)
            _remove_leftovers(self.manifests)
        except OSError as error:
            raise StorageError(f"{self.manifests} cannot be created: {error.strerror}") from error

    def has(self, sha256: str) -> bool:
        """Whether the RPM was imported. Reads nothing of its manifest."""
        return os.path.exists(self._path(sha256))

    def load(self, sha256: str, *, new: bool = False) -> PackageManifest | None:
        """Return the manifest of an RPM; None if it was never imported, or the manifest or one of its blobs is damaged.

        new: the RPM was imported just now, so its blobs need no check.
        """
        path = self._path(sha256)
        manifest = read_manifest(path)
        if manifest is None or manifest.sha256 != sha256:
            return None
        if new:
            return manifest
        if not all(file.blob is None or self.blobs.has(file.blob) for file in manifest.files):
            return None
        with suppress(FileNotFoundError), storage_errors(path):
            os.utime(path, follow_symlinks=False)
        return manifest

    def store(self, manifest: PackageManifest) -> None:
        """Store a manifest, whose blobs are in the blob store. Raises StorageError."""
        # not fs.atomic_write(), which replaces no directory; and an fsync per package costs more than the import, while the
        # digest shows a loss
        path = self._path(manifest.sha256)
        try:
            fd, temporary = tempfile.mkstemp(dir=self.manifests, prefix=_TEMPORARY)
            try:
                with open(fd, "wb") as file:
                    file.write(_encode(manifest))
                replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise storage_error(path, error) from error

    def paths(self) -> list[str]:
        """Return the absolute paths of all manifests, of any version, complete or not."""
        names = sorted(name for name in os.listdir(self.manifests) if not name.startswith(_TEMPORARY))
        return [os.path.join(self.manifests, name) for name in names]

    def _path(self, sha256: str) -> str:
        return f"{self.manifests}/{sha256}.{IMPORTER_VERSION}"


def read_manifest(path: str) -> PackageManifest | None:
    """Read a file; None if it is not a complete manifest of this version and owned by us. Raises StorageError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(_MAX_SIZE) if os.fstat(fd).st_uid == os.geteuid() else b""
    except OSError as error:
        # missing, a symlink, a directory, a bad sector: import the RPM again
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.EIO):
            return None
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    return _decode(data)


def _remove_leftovers(directory: str) -> None:
    for name in os.listdir(directory):
        if name.startswith(_TEMPORARY):
            path = os.path.join(directory, name)
            # another process may remove it first, or rename it
            with suppress(FileNotFoundError):
                if time.time() - os.stat(path).st_mtime > _WRITTEN_WITHIN:
                    os.unlink(path)


def _encode(manifest: PackageManifest) -> bytes:
    nevra = manifest.nevra
    facts = [
        [nevra.name, nevra.epoch, nevra.version, nevra.release, nevra.arch],
        manifest.sha256,
        manifest.source_rpm,
        manifest.build_time,
        manifest.size,
        [_file_row(file) for file in manifest.files],
        [[scriptlet.kind, _script_row(scriptlet.script)] for scriptlet in manifest.scriptlets],
        [_trigger_row(trigger) for trigger in manifest.triggers],
    ]
    text = json.dumps(facts, separators=(",", ":")).encode()
    body = _MAGIC + _LENGTH.pack(len(text)) + text + manifest.header
    return body + hashlib.sha256(body).digest()


def _file_row(file: ManifestFile) -> list[Any]:
    blob = file.blob
    return [
        file.path, file.mode, file.user, file.group, file.mtime, int(file.flags), file.caps.hex(), file.target,
        blob and blob.digest, blob and blob.size, file.link, file.color, file.lang,
        file.ima.hex(),
    ]  # fmt: skip


def _script_row(script: Script) -> list[Any]:
    return [script.interpreter, script.body, script.expand, script.qformat]


def _trigger_row(trigger: Trigger) -> list[Any]:
    conditions = [[condition.name, condition.flags, condition.version] for condition in trigger.conditions]
    return [trigger.kind, conditions, _script_row(trigger.script), trigger.priority]


def _decode(data: bytes) -> PackageManifest | None:
    """Return the manifest, or None if the data is not a result of _encode()."""
    body = memoryview(data)[:-_DIGEST_SIZE]
    if not data.startswith(_MAGIC) or len(body) < _PREFIX or hashlib.sha256(body).digest() != data[-_DIGEST_SIZE:]:
        return None
    (length,) = _LENGTH.unpack_from(body, len(_MAGIC))
    text = bytes(body[_PREFIX : _PREFIX + length])
    nevra, sha256, source_rpm, build_time, size, files, scriptlets, triggers = json.loads(text)
    name, epoch, version, release, arch = nevra
    return PackageManifest(
        nevra=Nevra(name=name, epoch=epoch, version=version, release=release, arch=arch),
        sha256=sha256,
        source_rpm=source_rpm,
        build_time=build_time,
        size=size,
        header=bytes(body[_PREFIX + length :]),
        files=tuple(_file(row) for row in files),
        scriptlets=tuple(Scriptlet(kind=ScriptKind(kind), script=_script(row)) for kind, row in scriptlets),
        triggers=tuple(_trigger(row) for row in triggers),
    )


def _file(row: list[Any]) -> ManifestFile:
    path, mode, user, group, mtime, bits, caps, target, digest, size, link, color, lang, ima = row
    blob = None
    if digest is not None:
        blob = BlobRef(digest=digest, size=size, mode=plain_mode(stat.S_IMODE(mode)), mtime=mtime)
    return ManifestFile(
        path=path,
        mode=mode,
        user=user,
        group=group,
        mtime=mtime,
        flags=file_flag(bits),
        caps=bytes.fromhex(caps) if caps else b"",
        target=target,
        blob=blob,
        link=link,
        color=color,
        lang=lang,
        ima=bytes.fromhex(ima) if ima else b"",
    )


def _script(row: list[Any]) -> Script:
    interpreter, body, expand, qformat = row
    return Script(interpreter=tuple(interpreter), body=body, expand=expand, qformat=qformat)


def _trigger(row: list[Any]) -> Trigger:
    kind, conditions, script, priority = row
    return Trigger(
        kind=TriggerKind(kind),
        conditions=tuple(
            TriggerCondition(name=name, flags=flags, version=version) for name, flags, version in conditions
        ),
        script=_script(script),
        priority=priority,
    )
