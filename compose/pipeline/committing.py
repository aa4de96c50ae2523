"""A finished tree and what is known of its making, as a commit with its metadata."""

from __future__ import annotations

import os

from compose import metadata
from compose.blobs import BlobStore
from compose.cachedir import OBJECT_MEMO
from compose.commit import CommitOptions, Committed, commit_tree
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.pipeline import settings
from compose.pipeline.facts import Facts
from compose.pipeline.options import ComposeOptions
from compose.tree import Tree
from compose.treefile.model import Treefile


def write_commit(
    tree: Tree,
    store: BlobStore,
    repo: Repo,
    options: ComposeOptions,
    treefile: Treefile,
    facts: Facts,
    parent: str | None,
    reporter: Reporter,
) -> Committed:
    """Commit, and move the treefile's ref unless --write-commitid-to was given. Raises as commit_tree() does."""
    own = settings.own_metadata(facts, treefile)
    how = CommitOptions(
        metadata=metadata.assemble_metadata(settings.user_metadata(options, treefile), own),
        detached=metadata.assemble_metadata({}, settings.detached_metadata(facts, treefile)),
        gpg_key=treefile.gpg_key if options.sign else None,
        parent=parent,
        timestamp=facts.epoch,
        ref=None if options.write_commitid_to else treefile.ref,
        jobs=options.jobs,
        memo=os.path.join(options.cachedir, OBJECT_MEMO),
    )
    return commit_tree(tree, store, repo, how, reporter)
