"""What programs write that is never the same twice, or is of one machine: removed, or given a value that is.

Only what a scriptlet, a script of the treefile or the compose itself wrote; what a package or add-files brings is meant so.
/var and /run are emptied (var.py), which settles the caches and logs there: ldconfig's aux-cache, man-db, fontconfig, the
journal's catalog and logs, random seeds, dnf's history. dracut, ldconfig, hwdb and their like honour SOURCE_DATE_EPOCH, which
all programs are given, or write no time.
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
_OWN_KEY = "a key that every machine would share: each makes its own"
_OWN_NAME = "a name that every machine would share: each makes its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """Paths, with /etc in its place, that are not committed. told: is it worth a word? by_scripts: also when a script of the
    treefile made it, whose author may have meant a name, but hardly a key."""

    pattern: re.Pattern[str]
    reason: str
    told: bool = True
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
    _Rule(pattern=re.compile(r"usr/share/fonts/(.*/)?\.uuid"), reason="random, and of no use", told=False),
    _Rule(pattern=re.compile(r"usr/lib/sysimage/(libdnf5|dnf)/.*"), reason="of runs of dnf in the compose", told=False),
)


def settle(tree: Tree, store: Contents) -> tuple[Tree, tuple[Dropped, ...]]:
    """The tree without them, and what was dropped. Done again, it changes nothing."""
    editor = tree.edit()
    dropped = []
    for path, entry in tree.walk():
        if entry.is_dir or not _is_made_here(entry):
            continue
        rule = next((rule for rule in _RULES if rule.pattern.fullmatch(path)), None)
        if rule is not None and (rule.by_scripts or not entry.writer.startswith("treefile:")):
            editor.remove(path)
            dropped.append(Dropped(path=path, reason=rule.reason, expected=not rule.told))
        elif entry.blob is not None and (steady := _steady(path)):
            rewrite(editor, path, steady(store.read(entry.blob)), store, writer=entry.writer)
    return editor.build(), tuple(dropped)


def _is_made_here(entry: Entry) -> bool:
    return entry.writer.startswith(("scriptlet:", "treefile:", "step:")) and entry.writer != "step:add-files"


def _steady(path: str) -> Callable[[bytes], bytes] | None:
    """What makes the content of such a file steady."""
    if path.endswith(".pyc"):
        return steady_pyc
    return steady_jks if path.endswith("/cacerts") else None


def steady_pyc(data: bytes) -> bytes:
    """A .pyc that goes by the time of its source: 0, which sources have on every client, so that Python believes it there.

    PEP 552: magic number, flags (0 for a time, others for a hash), time, size of the source; four bytes each, little-endian.
    """
    if len(data) < 16 or data[2:4] != b"\r\n" or data[4:8] != bytes(4):
        return data
    return data[:8] + bytes(4) + data[12:]


def steady_jks(data: bytes) -> bytes:
    """A Java key store of certificates: 0 in place of the times at which they were put in. One with keys, or with another
    password than the one that all have who need none, is somebody's own and stays.

    Big-endian: magic number, version, count; of each certificate a tag (2), its name and its type with two bytes of length,
    between them the time in milliseconds, then its bytes with four of length; last a SHA-1 of password, a salt and all that
    (sun.security.provider.JavaKeyStore of OpenJDK).
    """
    body, digest = data[:-_SHA1], data[-_SHA1:]
    if body[:8] != _JKS or _digest_of(body) != digest:
        return data
    steady, at = bytearray(body), 12
    try:
        for _ in range(int.from_bytes(body[8:12])):
            tag, name = struct.unpack_from(">IH", body, at)
            at += 6 + name
            (kind,) = struct.unpack_from(">H", body, at + 8)
            (size,) = struct.unpack_from(">I", body, at + 10 + kind)
            if tag != _CERTIFICATE:
                return data
            steady[at : at + 8] = bytes(8)
            at += 14 + kind + size
    except struct.error:
        return data
    return bytes(steady) + _digest_of(bytes(steady)) if at == len(body) else data


def _digest_of(body: bytes) -> bytes:
    return hashlib.sha1(_PASSWORD + b"Mighty Aphrodite" + body, usedforsecurity=False).digest()
