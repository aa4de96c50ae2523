"""Questions about what is there already: commits of a repository, or a root directory."""

from __future__ import annotations

from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.diff import CommitDiff, diff_commits
from compose.errors import RepositoryError
from compose.events import Reporter
from compose.layers import read_layer
from compose.lint.check import Finding, lint_tree
from compose.ostree.repo import Repo
from compose.rootfs import read_rootfs


def lint_commit(path: str, revision: str, cachedir: str) -> tuple[Finding, ...]:
    """Findings in a commit and its metadata. Raises RepositoryError."""
    store = BlobStore(CacheDir(cachedir).join("blobs"))
    with Repo.open(path) as repo:
        checksum = _commit_of(repo, revision)
        commit = repo.read_commit(checksum)
        tree = read_layer(repo, checksum, store)
        return lint_tree(tree, store, bootable=bool(commit.get("ostree.bootable")), commit=commit)


def lint_rootfs(directory: str, cachedir: str, reporter: Reporter, *, bootable: bool) -> tuple[Finding, ...]:
    """Findings in a root directory, as `compose postprocess` leaves it. Raises UsageError for what is none."""
    store = BlobStore(CacheDir(cachedir).join("blobs"))
    return lint_tree(read_rootfs(directory, store, reporter, writer="rootfs"), store, bootable=bootable)


def diff_revisions(path: str, before: str, after: str) -> CommitDiff:
    """What differs between two commits of a repository. Raises RepositoryError."""
    with Repo.open(path) as repo:
        return diff_commits(repo, _commit_of(repo, before), _commit_of(repo, after))


def _commit_of(repo: Repo, revision: str) -> str:
    checksum = repo.resolve(revision)
    if checksum is None or not repo.has(checksum, "commit"):
        raise RepositoryError(f"{repo.path} has no commit {revision}", hint="see: ostree refs")
    return checksum
