"""What programs write that is never the same twice, or is of one machine: removed, or given a value that is.

Only what a scriptlet, a script of the treefile or the compose itself wrote; what a package or add-files brings is meant so.
/var and /run are emptied (var.py), which settles the caches and logs there: ldconfig's aux-cache, man-db, fontconfig, the
journal's catalog and logs, random seeds, dnf's history. dracut, ldconfig, hwdb and their like honour SOURCE_DATE_EPOCH, which
all programs are given, or write no time.
"""

from __future__ import annotations

import re

from compose.postprocess.contents import Contents, rewrite
from compose.postprocess.options import Dropped
from compose.tree import Entry, Tree

WRITER = "step:volatile"
_OWN_KEY = "a key that every machine would share: each makes its own"
_OWN_NAME = "a name that every machine would share: each makes its own"

# Paths of the tree with /etc in its place, and why they are not committed.
_MACHINE_S = (
    (r"etc/ssh/ssh_host_[^/]*key(\.pub)?", _OWN_KEY),
    (r"etc/pki/tls/(private|certs)/localhost\.(key|crt)", _OWN_KEY),
    (r"etc/ssl/(private|certs)/ssl-cert-snakeoil\.(key|pem)", _OWN_KEY),
    (r"etc/cockpit/ws-certs\.d/0-self-signed[^/]*", _OWN_KEY),
    (r"etc/unbound/unbound_(server|control)\.(key|pem)", _OWN_KEY),
    (r"etc/(bind/)?rndc\.key", _OWN_KEY),
    (r"etc/brlapi\.key", _OWN_KEY),
    (r"etc/iscsi/initiatorname\.iscsi|etc/nvme/host(id|nqn)|etc/hostid", _OWN_NAME),
    (r"etc/openvswitch/system-id\.conf", _OWN_NAME),
)
# Of no use to anybody, and not worth a word.
_LEFTOVERS = (
    (r"usr/lib/sysimage/(libdnf5|dnf)/.*|usr/share/fonts/(.*/)?\.uuid", "a record of this compose's own runs"),
)
_REMOVED = tuple(
    (re.compile(pattern), reason, rows is _LEFTOVERS) for rows in (_MACHINE_S, _LEFTOVERS) for pattern, reason in rows
)


def settle(tree: Tree, store: Contents) -> tuple[Tree, tuple[Dropped, ...]]:
    """The tree without them, and what was dropped. Done again, it changes nothing."""
    editor = tree.edit()
    dropped = []
    for path, entry in tree.walk():
        if entry.is_dir or not _is_made_here(entry):
            continue
        row = next((row for row in _REMOVED if row[0].fullmatch(path)), None)
        if row is not None:
            editor.remove(path)
            dropped.append(Dropped(path=path, reason=row[1], expected=row[2]))
            continue
        if path.endswith(".pyc") and entry.blob is not None:
            rewrite(editor, path, steady_pyc(store.read(entry.blob)), store, writer=entry.writer)
    return editor.build(), tuple(dropped)


def _is_made_here(entry: Entry) -> bool:
    return entry.writer.startswith(("scriptlet:", "treefile:", "step:")) and entry.writer != "step:add-files"


def steady_pyc(data: bytes) -> bytes:
    """A .pyc that goes by the time of its source: 0, which sources have on every client, so that Python believes it there.

    PEP 552: magic number, flags (0 for a time, others for a hash), time, size of the source; four bytes each, little-endian.
    """
    if len(data) < 16 or data[2:4] != b"\r\n" or data[4:8] != bytes(4):
        return data
    return data[:8] + bytes(4) + data[12:]
