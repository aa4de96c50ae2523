"""Layers: read the commits that ostree-layers of a treefile names from a repository into the blob store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from compose.blobs import BlobStore
from compose.commit import write_tree
from compose.errors import TreefileError
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from compose.tree import Entry, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCommit:
    """A commit that a treefile names. ref: as in the treefile. override: named in ostree-override-layers. commit: checksum.

    content: digest of its tree, 64 hex digits; the compose depends on this, not on the commit's checksum.
    """

    ref: str
    override: bool
    commit: str
    content: str


def resolve_layers(
    repo: Repo, refs: Iterable[str], overrides: Iterable[str], recorded: Mapping[str, str]
) -> tuple[LayerCommit, ...]:
    """Resolve the refs of layers, overrides last. recorded: commits by ref, which are used instead of the refs' current ones.

    Raises TreefileError if a commit is missing.
    """
    found = []
    for ref, override in (*((each, False) for each in refs), *((each, True) for each in overrides)):
        checksum = recorded.get(ref) or repo.resolve(ref)
        if checksum is None or not repo.has(checksum, "commit"):
            key = "ostree-override-layers" if override else "ostree-layers"
            name = f"{ref} as of {checksum}" if ref in recorded else ref
            raise TreefileError(
                f"{key}: {repo.path} has no commit {name}",
                hint="pull it into the repository, or specify another one with --layer-repo",
            )
        commit = repo.read_commit(checksum, ())
        content = hashlib.sha256(commit.root_tree + commit.root_meta).hexdigest()
        found.append(LayerCommit(ref=ref, override=override, commit=checksum, content=content))
    return tuple(found)


def read_layer(repo: Repo, commit: str, store: BlobStore) -> Tree:
    """Return the tree of a commit, with its contents in the store. Raises RepositoryError if an object is missing or damaged,
    StorageError."""
    time = repo.read_commit(commit, ()).timestamp
    # by checksum: most directories have the same metadata, and many files are equal
    known: dict[bytes, Entry] = {}
    entries: dict[str, Entry] = {}
    for path, checksum, meta in repo.walk(commit):
        key = checksum if meta is None else meta
        if key not in known:
            known[key] = replace(
                _read_file(repo, checksum, time, store) if meta is None else _read_directory(repo, meta),
                mtime=time,
                writer=commit,
            )
        entries[path] = known[key]
    return Tree(entries)


def _read_directory(repo: Repo, meta: bytes) -> Entry:
    owner = repo.read_dirmeta(meta)
    return Entry(mode=owner.mode, uid=owner.uid, gid=owner.gid, xattrs=tuple(sorted(owner.xattrs)))


def _read_file(repo: Repo, checksum: bytes, time: int, store: BlobStore) -> Entry:
    with repo.open_content(checksum) as content:
        info, blob = content.info, None
        if info.target is None:
            with store.writer(info.mode & 0o7777, time) as writer:
                for piece in content.pieces:
                    writer.write(piece)
                blob = writer.commit()
    xattrs = tuple(sorted(info.xattrs))
    return Entry(mode=info.mode, uid=info.uid, gid=info.gid, xattrs=xattrs, blob=blob, target=info.target)


def copy_layers(
    repo: Repo, layers: Iterable[LayerCommit], store: BlobStore, target: Repo, jobs: int, reporter: Reporter
) -> None:
    """Copy the commits of layers to another repository through the store. Raises as read_layer() and Transaction do."""
    for commit in dict.fromkeys(each.commit for each in layers):
        tree = read_layer(repo, commit, store)
        with Transaction(target, jobs=jobs, reporter=reporter) as transaction:
            write_tree(tree, store, transaction, lambda _objects, _size: None)
            transaction.write_commit(repo.read_commit(commit))
