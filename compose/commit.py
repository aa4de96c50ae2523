"""The last stage: write a labelled tree as OSTree objects and a commit.

Contents are written on all cores and directories at the same time; the ref comes last, all in one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from compose.blobs import BlobStore
from compose.errors import StorageError
from compose.events import Reporter
from compose.ostree.ahead import DeflateAhead
from compose.ostree.composefs import Node, file_payload, image_digest
from compose.ostree.content import Content
from compose.ostree.directories import Directory, DirectoryWriter
from compose.ostree.gvariant import Variant
from compose.ostree.measuring import measure_contents
from compose.ostree.memo import ContentMemo
from compose.ostree.objects import COMPOSEFS_DIGEST, Commit, Metadata
from compose.ostree.repo import Repo
from compose.ostree.transaction import Stats, Transaction
from compose.ostree.workers import DamagedContentError
from compose.tree import Entry, Tree

if TYPE_CHECKING:
    from compose.ostree.signers import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitOptions:
    """Options of commit_tree(). metadata: in the order to be hashed; if the repository requires a composefs digest, that is
    added and the keys are sorted. parent: checksum, or None. timestamp: seconds since 1970. ref: to move, or None. replaces:
    as of Transaction.set_ref().

    detached: metadata stored next to the commit. signers: sign the commit. jobs: number of processes. memo: file that caches
    checksums between commits, so that unchanged contents are not read; None for none.
    """

    metadata: Metadata
    parent: str | None
    timestamp: int
    ref: str | None
    replaces: str | None = None
    detached: Metadata = ()
    signers: tuple[Signer, ...] = ()
    jobs: int = 1
    memo: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A new commit. checksum: of the commit. content_checksum: of the tree alone, as `ostree show` prints it. 64 hex digits."""

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
    keep: Callable[[str], None] | None = None,
) -> Committed:
    """Write a tree and its commit. ahead: contents deflated in advance, for an archive repository. confirm: called after all
    objects are written, before any is published; its errors are passed on. keep: called with the commit's checksum after all
    objects are published, before the ref moves.

    Raises RepositoryError, StorageError, DamagedError if a blob does not have its digest, or UsageError if the commit cannot be
    signed or the program for the composefs digest is missing. The repository is then unchanged, but for objects without a ref
    if the ref moved while they were published.
    """
    total = sum(entry.blob.size for entry in tree.entries.values() if entry.blob is not None)
    memo = ContentMemo.open(options.memo) if options.memo is not None else None
    listing = _list(tree, store)
    with (
        reporter.task("Writing objects", total=total, unit="bytes") as task,
        Transaction(repo, jobs=options.jobs, reporter=reporter) as transaction,
    ):
        checksums: dict[int, bytes] | None = {} if repo.config.composefs else None
        root_tree, root_meta = _write(
            listing, store, transaction, lambda _objects, size: task.advance(size), memo, ahead, checksums
        )
        metadata = options.metadata
        if checksums is not None:
            with _damaged_blobs(store):
                verity = measure_contents(listing.contents, memo or ContentMemo(), options.jobs, reporter)
            metadata = _with_digest(metadata, image_digest(_nodes(tree, listing, checksums, verity)))
        if confirm is not None:
            confirm()
        checksum = transaction.write_commit(
            Commit(
                metadata=metadata,
                parent=bytes.fromhex(options.parent) if options.parent else b"",
                subject="",
                body="",
                timestamp=options.timestamp,
                root_tree=root_tree,
                root_meta=root_meta,
            ),
            detached=options.detached,
            signers=options.signers,
        )
        if keep is not None:
            transaction.before_refs(partial(keep, checksum))
        if options.ref is not None:
            transaction.set_ref(options.ref, checksum, replaces=options.replaces)
        stats = transaction.stats
    if memo is not None:
        try:
            memo.save()
        except StorageError as error:
            reporter.warn(f"checksums could not be cached, so the next compose computes them again: {error}")
    return Committed(checksum=checksum, content_checksum=hashlib.sha256(root_tree + root_meta).hexdigest(), stats=stats)


def write_tree(
    tree: Tree, store: BlobStore, transaction: Transaction, on_progress: Callable[[int, int], None]
) -> tuple[bytes, bytes]:
    """Write all objects of a tree. Returns the checksums of the root's dirtree and dirmeta, 32 bytes each.

    on_progress: called with numbers of objects and bytes that were written. Raises as commit_tree().
    """
    return _write(_list(tree, store), store, transaction, on_progress)


@dataclass(frozen=True, slots=True)
class _Listing:
    """A tree as the OSTree library takes it. names: for each of contents, the index of its directory and its name there."""

    directories: list[Directory]
    names: list[tuple[int, bytes]]
    contents: list[Content]


def _list(tree: Tree, store: BlobStore) -> _Listing:
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
    return _Listing(directories, names, contents)


def _write(
    listing: _Listing,
    store: BlobStore,
    transaction: Transaction,
    on_progress: Callable[[int, int], None],
    memo: ContentMemo | None = None,
    ahead: DeflateAhead | None = None,
    checksums: dict[int, bytes] | None = None,
) -> tuple[bytes, bytes]:
    """Write a listing's objects. checksums: receives the checksums of contents, by index."""
    writer = DirectoryWriter(transaction, listing.directories, listing.names)

    def take(known: Iterable[tuple[int, bytes]]) -> None:
        if checksums is not None:
            known = tuple(known)
            checksums.update(known)
        writer.take(known)

    with _damaged_blobs(store):
        transaction.write_contents(listing.contents, take, on_progress, memo, ahead)
    return writer.root


def _nodes(
    tree: Tree, listing: _Listing, checksums: Mapping[int, bytes], verity: Mapping[str, bytes]
) -> Iterator[Node]:
    """Yield the nodes of a tree's composefs image. checksums: of contents, by index. verity: fs-verity digests, by sha256."""
    rest = enumerate(listing.contents)
    for path, entry in tree.walk():
        size, payload, measured = 0, "", b""
        if entry.target is not None:
            next(rest)
            size, payload = len(entry.target.encode()), entry.target
        elif not entry.is_dir:
            place, content = next(rest)
            if content.size:
                size, payload, measured = content.size, file_payload(checksums[place]), verity[content.digest]
        yield Node(
            path=path,
            uid=entry.uid,
            gid=entry.gid,
            mode=entry.mode,
            xattrs=entry.xattrs,
            size=size,
            payload=payload,
            verity=measured,
        )


def _with_digest(metadata: Metadata, digest: bytes) -> Metadata:
    """Add a tree's composefs digest, replacing that of another tree. The keys are sorted, as in every commit."""
    rest = [row for row in metadata if row[0] != COMPOSEFS_DIGEST]
    return tuple(sorted((*rest, (COMPOSEFS_DIGEST, Variant("ay", digest))), key=lambda row: row[0]))


@contextmanager
def _damaged_blobs(store: BlobStore) -> Iterator[None]:
    """Raise what BlobStore.damaged() says of a file that does not have its digest."""
    try:
        yield
    except DamagedContentError as error:
        raise store.damaged(error.path) from error


def _content_of(entry: Entry, store: BlobStore) -> Content:
    blob = entry.blob
    if blob is None:
        return Content(uid=entry.uid, gid=entry.gid, mode=entry.mode, xattrs=entry.xattrs, target=entry.target)
    return Content(
        uid=entry.uid,
        gid=entry.gid,
        mode=entry.mode,
        xattrs=entry.xattrs,
        path=store.source(blob),
        size=blob.size,
        digest=blob.digest,
        hashed=store.has_made(blob),
    )
