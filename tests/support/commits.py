"""Small commits made of what a test says, without a tree on disk and without root."""

from __future__ import annotations

import hashlib
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.events import Reporter
from compose.ostree.content import Content
from compose.ostree.directories import Directory, DirectoryWriter
from compose.ostree.gvariant import encode
from compose.ostree.objects import (
    COMMIT_TYPE,
    Commit,
    Metadata,
    Xattrs,
    encode_dirmeta,
    encode_dirtree,
    object_name,
)
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction

EPOCH = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """content: bytes of a file, text of a symlink, None for a directory. mode: permissions."""

    content: bytes | str | None = None
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    xattrs: Xattrs = ()


def file(content: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0, xattrs: Xattrs = ()) -> Item:
    return Item(content, mode, uid, gid, xattrs)


def link(target: str, xattrs: Xattrs = ()) -> Item:
    return Item(target, 0o777, xattrs=xattrs)


def write_commit(
    repo: Repo,
    items: Mapping[str, Item],
    *,
    metadata: Metadata = (),
    detached: Metadata = (),
    subject: str = "",
    timestamp: int = EPOCH,
    parent: str = "",
    ref: str | None = None,
) -> str:
    """items: by path; directories that are not among them are root's. ref: to move. Returns the checksum."""
    tree = dict(items)
    for path in items:
        while path:
            path = path.rpartition("/")[0]
            tree.setdefault(path, Item())
    directories: list[Directory] = []
    places: dict[str, int] = {}
    names: list[tuple[int, bytes]] = []
    contents: list[Content] = []
    with tempfile.TemporaryDirectory() as work:
        for path in sorted(tree, key=lambda each: [*filter(None, each.split("/"))]):
            item = tree[path]
            above, _, name = path.rpartition("/")
            owner = {"uid": item.uid, "gid": item.gid, "xattrs": item.xattrs}
            if item.content is None:
                places[path] = len(directories)
                holder = places[above] if path else -1
                mode = stat.S_IFDIR | item.mode
                directories.append(Directory(parent=holder, name=name.encode(), mode=mode, **owner))
                continue
            names.append((places[above], name.encode()))
            if isinstance(item.content, str):
                contents.append(Content(mode=stat.S_IFLNK | item.mode, target=item.content, **owner))
            else:
                source = Path(work, str(len(contents)))
                source.write_bytes(item.content)
                size = len(item.content)
                contents.append(Content(mode=stat.S_IFREG | item.mode, path=str(source), size=size, **owner))
        with Transaction(repo, jobs=1, reporter=Reporter()) as transaction:
            writer = DirectoryWriter(transaction, directories, names)
            transaction.write_contents(contents, writer.take, lambda _objects, _bytes: None)
            root_tree, root_meta = writer.root
            checksum = transaction.write_commit(
                Commit(
                    metadata=metadata,
                    parent=bytes.fromhex(parent),
                    subject=subject,
                    body="",
                    timestamp=timestamp,
                    root_tree=root_tree,
                    root_meta=root_meta,
                ),
                detached=detached,
            )
            if ref is not None:
                transaction.set_ref(ref, checksum)
    return checksum


def write_nested(repo: Repo, levels: int) -> str:
    """A commit whose directories contain the next one twice, and so 2^levels empty ones in levels + 3 objects. Returns
    the checksum."""

    def put(data: bytes, extension: str) -> bytes:
        digest = hashlib.sha256(data)
        path = Path(repo.path, "objects", object_name(digest.hexdigest(), extension))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return digest.digest()

    meta = put(encode_dirmeta(0, 0, stat.S_IFDIR | 0o755, b""), "dirmeta")
    tree = put(encode_dirtree([], []), "dirtree")
    for _ in range(levels):
        tree = put(encode_dirtree([], [(b"a", tree, meta), (b"b", tree, meta)]), "dirtree")
    return put(encode(COMMIT_TYPE, ([], b"", [], "", "", 0, tree, meta)), "commit").hex()
