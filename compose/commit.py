"""The last stage: a labelled tree becomes OSTree objects and one commit.

Contents are written on all cores, directories meanwhile, the ref last, all in one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compose.blobs import BlobStore
from compose.errors import StorageError
from compose.events import Reporter
from compose.ostree.ahead import DeflateAhead
from compose.ostree.content import Content
from compose.ostree.directories import Directory, DirectoryWriter
from compose.ostree.memo import ContentMemo
from compose.ostree.objects import Commit, Metadata
from compose.ostree.repo import Repo
from compose.ostree.transaction import Stats, Transaction
from compose.ostree.workers import DamagedContentError
from compose.tree import Entry, Tree

if TYPE_CHECKING:
    from compose.ostree.keys import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """metadata: in the order to be hashed. parent: checksum, or None. timestamp: seconds since 1970. ref: to move, or None.

    detached: metadata kept beside the commit. gpg_key: to sign with, of this user's GnuPG home. keys: to sign with too. memo:
    the file in which checksums are remembered between commits, so that what did not change is not read; None for none.
    """

    metadata: Metadata
    parent: str | None
    timestamp: int
    ref: str | None
    detached: Metadata = ()
    gpg_key: str | None = None
    keys: tuple[SigningKey, ...] = ()
    subject: str = ""
    body: str = ""
    jobs: int = 1
    memo: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """checksum: of the commit. content_checksum: of the tree alone, as `ostree show` prints it. Both 64 hex digits."""

    checksum: str
    content_checksum: str
    stats: Stats


def commit_tree(
    tree: Tree,
    store: BlobStore,
    repo: Repo,
    options: CommitOptions,
    reporter: Reporter,
    ahead: DeflateAhead | None = None,
    confirm: Callable[[], None] | None = None,
) -> Committed:
    """Write a tree and a commit of it. ahead: what is deflated already, of an archive repository. confirm: called when the
    objects are written and none is published. Raises what that raises, RepositoryError, StorageError, or DamagedError when a
    blob is not what it was; then the repository is as it was."""
    total = sum(entry.blob.size for entry in tree.entries.values() if entry.blob is not None)
    memo = ContentMemo.open(options.memo) if options.memo is not None else None
    with (
        reporter.task("Writing objects", total=total, unit="bytes") as task,
        Transaction(repo, jobs=options.jobs, reporter=reporter) as transaction,
    ):
        root_tree, root_meta = write_tree(
            tree, store, transaction, lambda _objects, size: task.advance(size), memo, ahead
        )
        if confirm is not None:
            confirm()
        checksum = transaction.write_commit(
            Commit(
                metadata=options.metadata,
                parent=bytes.fromhex(options.parent) if options.parent else b"",
                subject=options.subject,
                body=options.body,
                timestamp=options.timestamp,
                root_tree=root_tree,
                root_meta=root_meta,
            ),
            detached=options.detached,
            gpg_key=options.gpg_key,
            keys=options.keys,
        )
        if options.ref is not None:
            transaction.set_ref(options.ref, checksum)
        stats = transaction.stats
    if memo is not None:
        try:
            memo.save()
        except StorageError as error:
            reporter.warn(f"checksums are not remembered, and the next compose works them out again: {error}")
    return Committed(checksum=checksum, content_checksum=hashlib.sha256(root_tree + root_meta).hexdigest(), stats=stats)


def write_tree(
    tree: Tree,
    store: BlobStore,
    transaction: Transaction,
    on_progress: Callable[[int, int], None],
    memo: ContentMemo | None = None,
    ahead: DeflateAhead | None = None,
) -> tuple[bytes, bytes]:
    """Write all objects of a tree. Returns checksums of the root's dirtree and dirmeta, 32 bytes each."""
    directories: list[Directory] = []
    names: list[tuple[int, bytes]] = []
    contents: list[Content] = []
    places = {"": -1}
    for path, entry in tree.walk():
        parent, _, name = path.rpartition("/")
        place = places[parent]
        if entry.is_dir:
            places[path] = len(directories)
            directories.append(
                Directory(
                    parent=place, name=name.encode(), uid=entry.uid, gid=entry.gid, mode=entry.mode, xattrs=entry.xattrs
                )
            )
        else:
            names.append((place, name.encode()))
            contents.append(_content_of(entry, store))
    writer = DirectoryWriter(transaction, directories, names)
    try:
        transaction.write_contents(contents, writer.take, on_progress, memo, ahead)
    except DamagedContentError as error:
        raise store.damaged(error.path) from error
    return writer.root


def _content_of(entry: Entry, store: BlobStore) -> Content:
    blob = entry.blob
    if blob is None:
        return Content(uid=entry.uid, gid=entry.gid, mode=entry.mode, xattrs=entry.xattrs, target=entry.target)
    return Content(
        uid=entry.uid,
        gid=entry.gid,
        mode=entry.mode,
        xattrs=entry.xattrs,
        path=store.path(blob),
        size=blob.size,
        digest=blob.digest,
        hashed=store.has_made(blob),
    )
