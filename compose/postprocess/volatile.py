"""Removes or normalises files that differ with each compose or identify a machine.

This applies to files written by a scriptlet, a treefile script or the compose itself; those from packages or add-files are
intended. Emptying /var and /run (var.py) takes care of caches and logs there: ldconfig's aux-cache, man-db, fontconfig, the
journal's catalog and logs, random seeds, dnf's history. dracut, ldconfig, hwdb and others honour SOURCE_DATE_EPOCH, which all
programs get, or write no times.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from compose.postprocess.contents import Contents, rewrite
from compose.postprocess.options import Dropped
from compose.tree import Entry, Tree

_JKS = bytes.fromhex("feedfeed00000002")
_CERTIFICATE = 2
_PASSWORD = "changeit".encode("utf-16-be")
_SHA1 = 20
_OWN_KEY = "every machine would share this key; each creates its own"
_OWN_NAME = "every machine would share this name; each creates its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """Paths that are not committed, matched while /etc is in place.

    report: tell the user. by_scripts: also if a treefile script wrote it; its author may intend a name, but hardly a key.
    """

    pattern: re.Pattern[str]
    reason: str
    report: bool = True
    by_scripts: bool = True


_RULES = (
    _Rule(pattern=re.compile(r"etc/ssh/ssh_host_[^/]*key(\.pub)?"), reason=_OWN_KEY),
    _Rule(pattern=re.compile(r"etc/pki/tls/(private|certs)/localhost\.(key|crt)"), reason=_OWN_KEY),
    _Rule(pattern=re.compile(r"etc/ssl/(private|certs)/ssl-cert-snakeoil\.(key|pem)"), reason=_OWN_KEY),
    _Rule(pattern=re.compile(r"etc/cockpit/ws-certs\.d/0-self-signed[^/]*"), reason=_OWN_KEY),
    _Rule(pattern=re.compile(r"etc/unbound/unbound_(server|control)\.(key|pem)"), reason=_OWN_KEY),
    _Rule(pattern=re.compile(r"etc/((bind/)?rndc|brlapi)\.key"), reason=_OWN_KEY),
    _Rule(pattern=re.compile(r"etc/iscsi/initiatorname\.iscsi"), reason=_OWN_NAME, by_scripts=False),
    _Rule(pattern=re.compile(r"etc/nvme/host(id|nqn)|etc/hostid"), reason=_OWN_NAME, by_scripts=False),
    _Rule(pattern=re.compile(r"etc/openvswitch/system-id\.conf"), reason=_OWN_NAME, by_scripts=False),
    _Rule(pattern=re.compile(r"usr/share/fonts/(.*/)?\.uuid"), reason="random, and unused", report=False),
    _Rule(
        pattern=re.compile(r"usr/lib/sysimage/(libdnf5|dnf)/.*"),
        reason="written by dnf during the compose",
        report=False,
    ),
)


def settle(tree: Tree, store: Contents) -> tuple[Tree, tuple[Dropped, ...]]:
    """Remove or normalise volatile files; return the tree and what was dropped. Idempotent."""
    editor = tree.edit()
    dropped = []
    for path, entry in tree.walk():
        if entry.is_dir or not _is_made_here(entry):
            continue
        rule = next((rule for rule in _RULES if rule.pattern.fullmatch(path)), None)
        if rule is not None and (rule.by_scripts or not entry.writer.startswith("treefile:")):
            editor.remove(path)
            dropped.append(Dropped(path=path, reason=rule.reason, expected=not rule.report))
        elif entry.blob is not None and (normalise := _normaliser(path)):
            rewrite(editor, path, normalise(store.read(entry.blob)), store, writer=entry.writer)
    return editor.build(), tuple(dropped)


def _is_made_here(entry: Entry) -> bool:
    return entry.writer.startswith(("scriptlet:", "treefile:", "step:")) and entry.writer != "step:add-files"


def _normaliser(path: str) -> Callable[[bytes], bytes] | None:
    """The function that normalises the content of such a file, if there is one."""
    if path.endswith(".pyc"):
        return normalise_pyc
    return normalise_jks if path.endswith("/cacerts") else None


def normalise_pyc(data: bytes) -> bytes:
    """Set the source's mtime in a .pyc that is validated by it to 0, the mtime of all files on clients.

    PEP 552: magic number, flags (0 for validation by mtime, otherwise by hash), mtime and size of the source; four bytes each,
    little-endian.
    """
    if len(data) < 16 or data[2:4] != b"\r\n" or data[4:8] != bytes(4):
        return data
    return data[:8] + bytes(4) + data[12:]


def normalise_jks(data: bytes) -> bytes:
    """Set the creation times in a Java key store of certificates to 0.

    A store with keys, or with a password other than the customary default, is deliberate and stays as it is.

    Big-endian: magic number, version, count; for each certificate a tag (2), its name (two-byte length), the time in
    milliseconds, its type (two-byte length) and its bytes (four-byte length); finally a SHA-1 of password, salt and everything
    before (sun.security.provider.JavaKeyStore of OpenJDK).
    """
    body, digest = data[:-_SHA1], data[-_SHA1:]
    if body[:8] != _JKS or _digest_of(body) != digest:
        return data
    normal, at = bytearray(body), 12
    try:
        for _ in range(int.from_bytes(body[8:12])):
            tag, name = struct.unpack_from(">IH", body, at)
            at += 6 + name
            (kind,) = struct.unpack_from(">H", body, at + 8)
            (size,) = struct.unpack_from(">I", body, at + 10 + kind)
            if tag != _CERTIFICATE:
                return data
            normal[at : at + 8] = bytes(8)
            at += 14 + kind + size
    except struct.error:
        return data
    return bytes(normal) + _digest_of(bytes(normal)) if at == len(body) else data


def _digest_of(body: bytes) -> bytes:
    return hashlib.sha1(_PASSWORD + b"Mighty Aphrodite" + body, usedforsecurity=False).digest()
