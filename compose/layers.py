"""Commits as trees: what ostree-layers of a treefile names is read out of a repository into the blob store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from compose.blobs import BlobStore
from compose.commit import write_tree
from compose.errors import TreefileError
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from compose.tree import Entry, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCommit:
    """A commit that a treefile names. ref: as it does. override: named in ostree-override-layers.

    content: digest of the tree alone, 64 hex digits, which decides what the compose makes; the commit's own does not.
    """

    ref: str
    override: bool
    commit: str
    content: str


def resolve_layers(
    repo: Repo, refs: Iterable[str], overrides: Iterable[str], recorded: Mapping[str, str]
) -> tuple[LayerCommit, ...]:
    """The commits that layers are now, those that override last. recorded: those of a record, by ref; they go before what the
    refs are now. Raises TreefileError for what is not there."""
    found = []
    for ref, override in (*((each, False) for each in refs), *((each, True) for each in overrides)):
        checksum = recorded.get(ref) or repo.resolve(ref)
        if checksum is None or not repo.has(checksum, "commit"):
            key = "ostree-override-layers" if override else "ostree-layers"
            name = f"{ref}, of which {checksum} was taken" if ref in recorded else ref
            raise TreefileError(
                f"{key}: {repo.path} has no commit {name}",
                hint="pull it into the repository, or give the one that has it with --layer-repo",
            )
        commit = repo.read_commit(checksum)
        content = hashlib.sha256(commit.root_tree + commit.root_meta).hexdigest()
        found.append(LayerCommit(ref=ref, override=override, commit=checksum, content=content))
    return tuple(found)


def read_layer(repo: Repo, commit: str, store: BlobStore) -> Tree:
    """The tree of a commit, its contents in the store. Raises RepositoryError for what is missing or damaged."""
    when = repo.read_commit(commit).timestamp
    entries: dict[str, Entry] = {}
    for path, checksum, meta in repo.walk(commit):
        if meta is not None:
            owner = repo.read_dirmeta(meta)
            entries[path] = Entry(
                mode=owner.mode,
                uid=owner.uid,
                gid=owner.gid,
                xattrs=tuple(sorted(owner.xattrs)),
                mtime=when,
                writer=commit,
            )
            continue
        with repo.open_content(checksum) as content:
            info, blob = content.info, None
            if info.target is None:
                with store.writer(info.mode & 0o7777, when) as writer:
                    for piece in content.pieces:
                        writer.write(piece)
                    blob = writer.commit()
        entries[path] = Entry(
            mode=info.mode,
            uid=info.uid,
            gid=info.gid,
            xattrs=tuple(sorted(info.xattrs)),
            blob=blob,
            target=info.target,
            mtime=when,
            writer=commit,
        )
    return Tree(entries)


def copy_layers(
    repo: Repo, layers: Iterable[LayerCommit], store: BlobStore, target: Repo, jobs: int, reporter: Reporter
) -> None:
    """Copy the commits of layers into another repository, by way of the store. Raises as read_layer() and Transaction do."""
    for commit in dict.fromkeys(each.commit for each in layers):
        tree = read_layer(repo, commit, store)
        with Transaction(target, jobs=jobs, reporter=reporter) as transaction:
            write_tree(tree, store, transaction, lambda _objects, _size: None)
            transaction.write_commit(repo.read_commit(commit))
