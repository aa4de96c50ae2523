"""A finished tree and what is known of its making, as a commit with its metadata."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from compose import memory, metadata
from compose.blobs import BlobStore
from compose.cachedir import OBJECT_MEMO
from compose.commit import CommitOptions, Committed, commit_tree
from compose.events import Reporter
from compose.ostree.ahead import DeflateAhead
from compose.ostree.config import Mode
from compose.ostree.memo import ContentMemo
from compose.ostree.repo import Repo
from compose.ostree.workers import worker_memory
from compose.pipeline import settings
from compose.pipeline.facts import Facts
from compose.pipeline.options import ComposeOptions
from compose.rpm.manifest import PackageManifest
from compose.tree import Tree
from compose.treefile.model import Treefile

_WORTH_WHILE = 16 << 20
"""Bytes; fewer are deflated before a process has started for them."""


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
) -> Committed:
    """Commit, and move the treefile's ref unless --write-commitid-to was given. ahead: of deflate_ahead(). confirm, and what
    is raised: as of commit_tree()."""
    own = settings.own_metadata(facts, treefile)
    how = CommitOptions(
        metadata=metadata.assemble_metadata(settings.user_metadata(options, treefile), own),
        detached=metadata.assemble_metadata({}, settings.detached_metadata(facts, treefile)),
        gpg_key=treefile.gpg_key if options.sign else None,
        parent=parent,
        timestamp=facts.epoch,
        ref=None if options.write_commitid_to else treefile.ref,
        jobs=options.jobs,
        memo=_memo(options),
    )
    return commit_tree(tree, store, repo, how, reporter, ahead, confirm)


def deflate_ahead(
    manifests: Sequence[PackageManifest],
    store: BlobStore,
    repo: Repo,
    options: ComposeOptions,
    work: str,
    reporter: Reporter,
) -> DeflateAhead:
    """Deflate what packages brought and no commit of this cache had yet, on the cores that their scriptlets leave idle; for
    an archive repository. work: private, there until the commit is made."""
    files: dict[str, tuple[str, int, str]] = {}
    processes = options.jobs - 1 if repo.config.mode is Mode.ARCHIVE else 0
    if processes:
        known = ContentMemo.open(_memo(options)).digests()
        for manifest in manifests:
            for blob in (each.blob for each in manifest.files):
                if blob is not None and blob.size and bytes.fromhex(blob.digest) not in known:
                    files[blob.digest] = (store.path(blob), blob.size, blob.digest)
    sizes = [size for _, size, _ in files.values()]
    if sum(sizes) < _WORTH_WHILE:
        processes = 0
    if processes:
        processes = memory.fitting(processes, worker_memory(max(sizes)), "Deflating ahead", reporter)
    return DeflateAhead(list(files.values()), work, level=repo.config.zlib_level, processes=processes)


def _memo(options: ComposeOptions) -> str:
    return os.path.join(options.cachedir, OBJECT_MEMO)
