"""Trees as text, so that a step is tested by everything it changes.

    d usr/bin 0755
    d var/mail 2775 owner=0:8
    f etc/passwd 0644 "root:x:0:0::/root:/bin/sh\\n"
    f usr/bin/ping 0755 "" xattr=security.capability=0100000200200000
    l bin usr/bin

One entry a line: type, path, octal permissions (not for links), content as a JSON string or the target of a link, then
what is out of the ordinary. A path or target with a space in it is a JSON string. Parents that are not listed are made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import stat

from compose.blobs import plain_mode
from compose.postprocess.contents import Contents
from compose.tree import BlobRef, Entry, Tree

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
WRITER = "package:test"


class MemoryStore:
    """Contents by digest, as `compose.blobs.BlobStore` has them, in memory."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def add_bytes(self, data: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef:
        digest = hashlib.sha256(data).hexdigest()
        self._contents[digest] = data
        return BlobRef(digest=digest, size=len(data), mode=plain_mode(mode), mtime=mtime)

    def append(self, ref: BlobRef, more: bytes, mode: int = 0o644, mtime: int = 0) -> BlobRef:
        return self.add_bytes(self.read(ref) + more, mode, mtime)

    def read(self, ref: BlobRef) -> bytes:
        return self._contents[ref.digest]


def parse(text: str, store: MemoryStore) -> Tree:
    """The tree that the lines say, all written by "package:test"."""
    editor = Tree.empty().edit()
    for line in text.splitlines():
        words = [json.loads(word) if word.startswith('"') else word for word in _WORD.findall(line)]
        if not words or words[0].startswith("#"):
            continue
        kind, path, *rest = words
        if kind == "l":
            entry = Entry(mode=stat.S_IFLNK | 0o777, target=rest.pop(0), writer=WRITER)
        elif kind == "d":
            entry = Entry(mode=stat.S_IFDIR | int(rest.pop(0), 8), writer=WRITER)
        else:
            assert kind == "f", line
            mode = int(rest.pop(0), 8)
            blob = store.add_bytes(rest.pop(0).encode("utf-8", "surrogateescape"), mode)
            entry = Entry(mode=stat.S_IFREG | mode, blob=blob, writer=WRITER)
        editor.put("" if path == "/" else path, _with_options(entry, rest))
    return editor.build()


def _with_options(entry: Entry, words: list[str]) -> Entry:
    for word in words:
        name, _, value = word.partition("=")
        if name == "owner":
            uid, _, gid = value.partition(":")
            entry = dataclasses.replace(entry, uid=int(uid), gid=int(gid))
        else:
            assert name == "xattr", word
            key, _, data = value.partition("=")
            entry = entry.with_xattr(key.encode(), bytes.fromhex(data))
    return entry


def _word(text: str) -> str:
    return json.dumps(text) if not text or re.search(r'[\s"]', text) else text


def line_of(path: str, entry: Entry, store: Contents) -> str:
    """The line of one entry."""
    words = ["l" if entry.is_symlink else "d" if entry.is_dir else "f", _word(path or "/")]
    if entry.target is not None:
        words.append(_word(entry.target))
    else:
        words.append(f"{entry.permissions:04o}")
    if entry.blob is not None:
        words.append(json.dumps(store.read(entry.blob).decode("utf-8", "backslashreplace"), ensure_ascii=False))
    if entry.uid or entry.gid:
        words.append(f"owner={entry.uid}:{entry.gid}")
    words.extend(f"xattr={name.decode()}={value.hex()}" for name, value in entry.xattrs)
    return " ".join(words)


def dump(tree: Tree, store: Contents) -> str:
    """All lines, parents first."""
    return "".join(f"{line_of(path, entry, store)}\n" for path, entry in tree.walk())


def changes(before: Tree, after: Tree, store: Contents) -> list[str]:
    """What differs: "- line" of the old entry, "+ line @writer" of the new one, sorted by path."""
    found: list[str] = []
    for path in sorted(before.entries.keys() | after.entries.keys()):
        old, new = before.get(path), after.get(path)
        old_line = line_of(path, old, store) if old else ""
        new_line = line_of(path, new, store) if new else ""
        if old_line == new_line:
            continue
        if old_line:
            found.append(f"- {old_line}")
        if new:
            found.append(f"+ {new_line} @{new.writer}")
    return found


def expect(text: str) -> list[str]:
    """The lines of an indented text, for a comparison with `changes()`."""
    return [line.strip() for line in text.splitlines() if line.strip()]
