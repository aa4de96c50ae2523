"""The last stage: a labelled tree becomes OSTree objects and one commit.

Contents are written on all cores, directories bottom-up, the ref last, all in one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from compose.blobs import BlobStore
from compose.errors import StorageError
from compose.events import Reporter
from compose.ostree.ahead import DeflateAhead
from compose.ostree.content import Content
from compose.ostree.memo import ContentMemo
from compose.ostree.objects import Commit, Metadata
from compose.ostree.repo import Repo
from compose.ostree.transaction import Stats, Transaction
from compose.ostree.workers import DamagedContentError
from compose.tree import Entry, Tree, join


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """metadata: in the order to be hashed. parent: checksum, or None. timestamp: seconds since 1970. ref: to move, or None.

    detached: metadata kept beside the commit. gpg_key: to sign with, of this user's GnuPG home. memo: the file in which
    checksums are remembered between commits, so that what did not change is not read; None for none.
    """

    metadata: Metadata
    parent: str | None
    timestamp: int
    ref: str | None
    detached: Metadata = ()
    gpg_key: str | None = None
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
    paths = [path for path, entry in tree.walk() if not entry.is_dir]
    contents = [_content_of(tree[path], store) for path in paths]
    try:
        checksums = dict(zip(paths, transaction.write_contents(contents, on_progress, memo, ahead), strict=True))
    except DamagedContentError as error:
        raise store.damaged(error.path) from error
    del contents
    written: dict[str, tuple[bytes, bytes]] = {}
    # what a directory holds comes behind it
    for path, entry in reversed([(path, entry) for path, entry in tree.walk() if entry.is_dir]):
        files: list[tuple[bytes, bytes]] = []
        directories: list[tuple[bytes, bytes, bytes]] = []
        for name in tree.children(path):
            below = join(path, name)
            # names sort by their UTF-8 bytes, which is the order of their code points
            if (checksum := checksums.get(below)) is not None:
                files.append((name.encode(), checksum))
            else:
                directories.append((name.encode(), *written.pop(below)))
        written[path] = (
            transaction.write_dirtree(files, directories),
            transaction.write_dirmeta(entry.uid, entry.gid, entry.mode, entry.xattrs),
        )
    return written[""]


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
