"""Trees of existing commits: layers, which ostree-layers of a treefile names, and commits to look at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from compose.blobs import BlobStore, plain_mode
from compose.commit import write_tree
from compose.errors import TreefileError
from compose.events import Reporter
from compose.ostree.objects import FileInfo
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from compose.tree import BlobRef, Entry, Tree


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
    return _tree(repo, commit, time, lambda checksum: _read_file(repo, checksum, time, store))


class CommitContents:
    """Contents of the files in a repository, for those who need few of them. The digest of a blob is not that of its content
    here, but the checksum of its object; two blobs with different ones may have the same content."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo

    def read(self, ref: BlobRef) -> bytes:
        """Return the content of a blob of survey(). Raises RepositoryError if its object is missing or damaged."""
        with self._repo.open_content(bytes.fromhex(ref.digest)) as content:
            return b"".join(content.pieces)


def survey(repo: Repo, commit: str) -> tuple[Tree, CommitContents]:
    """Return the tree of a commit, and its contents, which are read only when asked for. Raises RepositoryError if an object is
    missing, or its header damaged."""
    time = repo.read_commit(commit, ()).timestamp
    return _tree(repo, commit, time, lambda checksum: _survey_file(repo, checksum, time)), CommitContents(repo)


def _tree(repo: Repo, commit: str, time: int, read_file: Callable[[bytes], Entry]) -> Tree:
    # by checksum: most directories have the same metadata, and many files are equal
    known: dict[bytes, Entry] = {}
    entries: dict[str, Entry] = {}
    for path, checksum, meta in repo.walk(commit):
        key = checksum if meta is None else meta
        if key not in known:
            known[key] = replace(
                read_file(checksum) if meta is None else _read_directory(repo, meta), mtime=time, writer=commit
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
    return _file_entry(info, blob)


def _survey_file(repo: Repo, checksum: bytes, time: int) -> Entry:
    with repo.open_content(checksum) as content:
        info, blob = content.info, None
        if info.target is None:
            mode = plain_mode(info.mode & 0o7777)
            blob = BlobRef(digest=checksum.hex(), size=content.size, mode=mode, mtime=time)
    return _file_entry(info, blob)


def _file_entry(info: FileInfo, blob: BlobRef | None) -> Entry:
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
            # as it is, whatever it holds, because layers are known by their checksums
            transaction.copy_commit(repo.read_metadata(commit, "commit"), detached=())
