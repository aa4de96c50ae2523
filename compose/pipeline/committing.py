"""Committing a finished tree, with its metadata."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from compose import metadata
from compose.blobs import BlobStore
from compose.cachedir import OBJECT_MEMO
from compose.commit import CommitOptions, Committed, commit_tree
from compose.events import Reporter
from compose.ostree.ahead import DeflateAhead, File
from compose.ostree.config import Mode
from compose.ostree.memo import ContentMemo
from compose.ostree.repo import Repo
from compose.ostree.sign import require_gpg_key
from compose.ostree.signers import GpgKey
from compose.pipeline import settings
from compose.pipeline.added import user_metadata
from compose.pipeline.facts import Facts
from compose.pipeline.options import ComposeOptions
from compose.postprocess import ima
from compose.rpm.manifest import PackageManifest
from compose.tree import BlobRef, Tree
from compose.treefile.model import Treefile

_GPG_KEY = "gpg-key"
"""The treefile's key, as messages name it."""


def check_commit(options: ComposeOptions, treefile: Treefile) -> None:
    """Raise at the beginning of a compose what can already be said to fail at its end: a key that does not exist."""
    if treefile.gpg_key and options.sign and not (options.download_only or options.download_only_rpms):
        require_gpg_key(treefile.gpg_key, _GPG_KEY)


def write_commit(
    tree: Tree,
    store: BlobStore,
    repo: Repo,
    options: ComposeOptions,
    treefile: Treefile,
    facts: Facts,
    parent: str | None,
    reporter: Reporter,
    ahead: DeflateAhead | None = None,
    confirm: Callable[[], None] | None = None,
    keep: Callable[[str], None] | None = None,
) -> Committed:
    """Commit the tree, and move the treefile's ref unless --write-commitid-to was given.

    parent: from parent_of(). If it is the ref's commit, it must still be when the ref moves, or RepositoryError is raised: the
    new commit continues its ids and its version, was compared with it, and is not older.
    ahead: from deflating(). confirm, keep, and the errors raised: see commit_tree().
    """
    own = settings.own_metadata(facts, treefile) | settings.bindings(repo, treefile.ref)
    user = user_metadata(options, treefile)
    for key in metadata.refused(user, own):
        reporter.warn(f"{key} is metadata that the compose itself gives a commit; the given value is ignored")
    commit_options = CommitOptions(
        metadata=metadata.assemble_metadata(user, own),
        detached=metadata.assemble_metadata({}, settings.detached_metadata(facts, treefile)),
        signers=(GpgKey(treefile.gpg_key, _GPG_KEY),) if treefile.gpg_key and options.sign else (),
        parent=parent,
        timestamp=facts.epoch,
        ref=None if options.write_commitid_to else treefile.ref,
        # a parent that a flag names is its user's decision
        replaces=None if options.no_parent or options.parent is not None else parent or "",
        jobs=options.jobs,
        memo=_memo(options),
    )
    return commit_tree(ima.translate(tree), store, repo, commit_options, reporter, ahead, confirm, keep)


def deflating(repo: Repo, options: ComposeOptions, work: str, reporter: Reporter) -> DeflateAhead:
    """Deflates objects that no earlier commit from this cache had, on cores that scriptlets leave idle; only for archive
    repositories. work: a private directory that exists until the commit is made."""
    processes = options.jobs - 1 if repo.config.mode is Mode.ARCHIVE else 0
    known = ContentMemo.open(_memo(options)).digests() if processes else frozenset[bytes]()
    return DeflateAhead(work, level=repo.config.zlib_level, processes=processes, known=known, reporter=reporter)


def deflate_packages(ahead: DeflateAhead, manifests: Sequence[PackageManifest], store: BlobStore) -> None:
    """Queue the contents of packages."""
    ahead.add(_files((each.blob for manifest in manifests for each in manifest.files), store))


def deflate_made(ahead: DeflateAhead, tree: Tree, store: BlobStore) -> None:
    """Queue what a stage has made, above all the rpm database."""
    made = (each.blob for each in tree.entries.values() if not each.writer.startswith("package:"))
    ahead.add(_files(made, store))


def _files(blobs: Iterable[BlobRef | None], store: BlobStore) -> Iterator[File]:
    return ((store.path(blob), blob.size, blob.digest) for blob in blobs if blob is not None)


def _memo(options: ComposeOptions) -> str:
    return os.path.join(options.cachedir, OBJECT_MEMO)
