"""Remove the objects that no ref leads to. Commits are removed first, so that none ever exists without its objects.

A ref keeps its whole history, unless a Retention says less. The repository must be locked exclusively, because the objects of a
transaction under way, to which no ref leads yet, would be removed too.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from compose import fs
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.delta.index import delta_directories, list_deltas
from compose.ostree.delta.layout import encode_index, index_path
from compose.ostree.gvariant import Variant, encode
from compose.ostree.objects import Commit, object_name
from compose.ostree.reachable import Objects, past, reader
from compose.ostree.repo import Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of a ref's history to keep: a number of commits, those since a time (seconds since 1970), or with both, what
    either keeps. The commit of the ref itself is always kept. With neither, the whole history is."""

    commits: int | None = None
    since: int | None = None

    def keeps(self, depth: int, timestamp: int) -> bool:
        """Is a commit kept? depth: 0 for the commit of the ref, 1 for its parent, and so on. timestamp: of the commit."""
        if self.commits is None and self.since is None:
            return True
        young = self.since is not None and timestamp >= self.since
        return depth == 0 or young or (self.commits is not None and depth < self.commits)


KEEP_ALL = Retention()


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """What to remove. commits: checksums. objects: paths of the other objects' files, relative to objects/. size: of all these
    files, in bytes. deltas: static deltas to those commits, "TO" or "FROM-TO" in hex; deltas from them are kept, because
    clients may still have them. All are sorted."""

    commits: tuple[str, ...]
    objects: tuple[str, ...]
    size: int
    deltas: tuple[str, ...]


def find_doomed(
    repo: Repo,
    retentions: Mapping[str, Retention],
    *,
    source: Repo | None = None,
    moved: Mapping[str, str] | None = None,
    coming: Container[str] = (),
    before: Callable[[str, str], Sequence[str]] | None = None,
) -> Doomed:
    """Find what no ref leads to.

    retentions: of local refs, by name. source: a repository that has commits of these histories which were not copied to repo,
    so that they do not end the history. moved: refs to be treated as if they were at these commits. coming: commits of source
    to be treated as if they had been copied. before: given the name of a ref and a commit, returns those that it replaced,
    which belong to the history even if they are not ancestors.

    Raises RepositoryError if a commit to keep is damaged, or lacks a dirtree without being marked as partial, because its
    objects are unknown then.
    """
    repos = (repo,) if source is None else (repo, source)
    there = functools.cache(lambda checksum: repo.has(checksum, "commit"))
    kept = _kept_commits(repo, retentions, moved or {}, functools.cache(reader(*repos)), there, coming, before)
    objects = Objects()
    for checksum, commit in kept.items():
        objects.add(repo if source is None or there(checksum) else source, checksum, commit)
    contents = {each.hex() for each in objects.contents}
    wanted = {
        "commit": kept.keys(),
        "commitmeta": kept.keys(),
        "dirtree": {each.hex() for each in objects.dirtrees},
        "dirmeta": {each.hex() for each in objects.dirmetas},
        "file": contents,
        "filez": contents,
    }
    commits: list[str] = []
    names: list[str] = []
    size = 0
    for directory, entry in _entries(repo):
        stem, _, extension = entry.name.partition(".")
        checksum = directory + stem
        # files with other names or extensions are none of ours
        if not refs.is_checksum(checksum) or checksum in wanted.get(extension, (checksum,)):
            continue
        size += entry.stat(follow_symlinks=False).st_size
        if extension == "commit":
            commits.append(checksum)
        else:
            names.append(f"{directory}/{entry.name}")
    deltas = [name for name, _ in delta_directories(repo.path) if name.rpartition("-")[2] not in kept]
    return Doomed(commits=tuple(sorted(commits)), objects=tuple(sorted(names)), size=size, deltas=tuple(sorted(deltas)))


def remove(repo: Repo, doomed: Doomed, reporter: Reporter) -> None:
    """Remove objects and deltas. The summary must no longer list the deltas, because clients that read it would request them.
    Raises StorageError; the next prune removes what is left then."""
    with (
        fs.storage_errors(repo.path),
        reporter.task("Pruning", total=len(doomed.commits) + len(doomed.objects), unit="objects") as task,
    ):
        _remove_deltas(repo, frozenset(doomed.deltas))
        for checksum in doomed.commits:
            if repo.config.tombstones:
                _write_tombstone(repo, checksum)
            _unlink(repo, f"objects/{object_name(checksum, 'commit')}")
            _unlink(repo, f"state/{checksum}.commitpartial")
            task.advance()
        if repo.config.fsync:
            # before their objects are removed
            for directory in {checksum[:2] for checksum in doomed.commits}:
                fs.sync_directory(f"objects/{directory}", dir_fd=repo.fd)
        for name in doomed.objects:
            _unlink(repo, f"objects/{name}")
            task.advance()


def _kept_commits(
    repo: Repo,
    retentions: Mapping[str, Retention],
    moved: Mapping[str, str],
    read: Callable[[str], Commit | None],
    there: Callable[[str], bool],
    coming: Container[str],
    before: Callable[[str, str], Sequence[str]] | None,
) -> dict[str, Commit]:
    """By checksum. there: is a commit in repo?"""
    kept: dict[str, Commit] = {}
    whole: set[str] = set()
    local = {**repo.refs(), **moved}
    others = [
        checksum
        for top in ("refs/remotes", "refs/mirrors")
        for name in refs.list_directories(repo.fd, top)
        for checksum in refs.list_refs(repo.fd, f"{top}/{name}").values()
    ]
    tips = [(name, checksum, retentions.get(name, KEEP_ALL)) for name, checksum in local.items()]
    for name, tip, retention in (*tips, *(("", checksum, KEEP_ALL) for checksum in others)):
        replaced = functools.partial(before, name) if name and before is not None else _nothing
        # commits that another ref has led to need not be followed again, if all of them are kept
        seen = whole if retention == KEEP_ALL and replaced is _nothing else set[str]()
        depth = 0
        for checksum, commit in past(tip, read, replaced, seen):
            seen.add(checksum)
            # commits of source that were not copied do not count, they only lead to what was before
            if checksum in coming or there(checksum):
                if not retention.keeps(depth, commit.timestamp):
                    break
                kept[checksum] = commit
                depth += 1
    return kept


def _nothing(_commit: str) -> Sequence[str]:
    return ()


def _entries(repo: Repo) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files in all directories of objects, with the name of the directory."""
    for directory in refs.list_directories(repo.fd, "objects"):
        with os.scandir(os.path.join(repo.path, "objects", directory)) as entries:
            for entry in entries:
                yield directory, entry


def _unlink(repo: Repo, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path, dir_fd=repo.fd)


def _write_tombstone(repo: Repo, commit: str) -> None:
    """Write the object that tells clients that the commit was deleted (ostree-repo-prune.c)."""
    data = encode("a{sv}", [("commit", Variant("ay", commit.encode() + b"\0"))])
    path = f"objects/{object_name(commit, 'tombstone-commit')}"
    refs.replace_file(repo.fd, path, data, fsync=repo.config.fsync)


def _remove_deltas(repo: Repo, names: frozenset[str]) -> None:
    for target in {name.rpartition("-")[2] for name in names}:
        listed = list_deltas(repo.path, target=target)
        _rewrite_index(repo, target, {name: digest for name, digest in listed.items() if name not in names})
    for name, directory in list(delta_directories(repo.path)):
        if name in names:
            # first, because half a delta must not be taken for one if its commit is published again
            _unlink(repo, os.path.join(directory, "superblock"))
            fs.remove_tree(directory)


def _rewrite_index(repo: Repo, target: str, deltas: dict[str, bytes]) -> None:
    """Update the index of the deltas to a commit, if there is one; remove it if there are no deltas."""
    path = index_path(target)
    if not deltas:
        _unlink(repo, path)
    elif os.path.exists(os.path.join(repo.path, path)):
        refs.replace_file(repo.fd, path, encode_index(deltas), fsync=repo.config.fsync)
