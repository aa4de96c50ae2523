"""Objects that no ref leads to are removed: commits first, so that none is ever there without what it holds.

A ref keeps its whole history but where a Retention says less. Whoever prunes holds the lock of the repository, exclusive: what
another transaction has written, and no ref leads to yet, would go too.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

from compose import fs
from compose.events import Reporter
from compose.ostree import refs
from compose.ostree.delta.index import delta_directories, leading_to, list_deltas
from compose.ostree.delta.layout import encode_index, index_path
from compose.ostree.gvariant import Variant, encode
from compose.ostree.objects import Commit, object_name
from compose.ostree.reachable import Objects, history, reader
from compose.ostree.repo import Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of a ref's history is kept: so many commits, those since a time (seconds since 1970), or what either says. The
    commit of the ref itself always is; where neither is given all of it is."""

    commits: int | None = None
    since: int | None = None

    def keeps(self, depth: int, timestamp: int) -> bool:
        """depth: 0 for the commit of the ref. timestamp: of the commit."""
        if self.commits is None and self.since is None:
            return True
        young = self.since is not None and timestamp >= self.since
        return depth == 0 or young or (self.commits is not None and depth < self.commits)


KEEP_ALL = Retention()


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """What goes. commits: checksums. objects: names of files below objects/, of all but commits. size: bytes of all these
    files. deltas: static deltas to what is gone, "TO" or "FROM-TO" in hex; those from it stay, since clients still have it. All
    sorted."""

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
    before: Callable[[str, str], str | None] | None = None,
) -> Doomed:
    """retentions: of local refs, by name. source: where what commits come from is looked up that were not all copied: those
    before and after them are one history. moved: refs as if they were at other commits. coming: commits of source as if they
    were copied. before: given the name of a ref and a commit, the commit that it replaced, which belongs to the history even
    if it is no ancestor.

    Raises RepositoryError when a commit that is kept is damaged, or not whole without a note that it is: what it needs cannot
    be told then.
    """
    repos = (repo,) if source is None else (repo, source)
    kept = _kept_commits(repo, retentions, moved or {}, functools.cache(reader(*repos)), coming, before)
    objects = Objects()
    for checksum in kept:
        objects.add(next((each for each in repos if each.has(checksum, "commit")), repo), checksum)
    contents = {each.hex() for each in objects.contents}
    wanted = {
        "commit": kept,
        "commitmeta": kept,
        "dirtree": {each.hex() for each in objects.dirtrees},
        "dirmeta": {each.hex() for each in objects.dirmetas},
        "file": contents,
        "filez": contents,
    }
    commits: list[str] = []
    names: list[str] = []
    size = 0
    for entry in _entries(repo):
        name = f"{os.path.basename(os.path.dirname(entry.path))}/{entry.name}"
        stem, _, extension = name.partition(".")
        checksum = stem.replace("/", "")
        # what is none of these has no meaning here, and is somebody else's
        if not refs.is_checksum(checksum) or checksum in wanted.get(extension, (checksum,)):
            continue
        size += entry.stat(follow_symlinks=False).st_size
        if extension == "commit":
            commits.append(checksum)
        else:
            names.append(name)
    deltas = [name for name, _ in delta_directories(repo.path) if name.rpartition("-")[2] not in kept]
    return Doomed(commits=tuple(sorted(commits)), objects=tuple(sorted(names)), size=size, deltas=tuple(sorted(deltas)))


def remove(repo: Repo, doomed: Doomed, reporter: Reporter) -> None:
    """Remove them. The summary lists none of the deltas any more: a client that has just read it would ask for them. Raises
    StorageError; what is left then goes at the next prune."""
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
            # before what they hold goes
            _sync_objects(repo, {checksum[:2] for checksum in doomed.commits})
        for name in doomed.objects:
            _unlink(repo, f"objects/{name}")
            task.advance()


def _kept_commits(
    repo: Repo,
    retentions: Mapping[str, Retention],
    moved: Mapping[str, str],
    read: Callable[[str], Commit | None],
    coming: Container[str],
    before: Callable[[str, str], str | None] | None,
) -> set[str]:
    kept: set[str] = set()
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
        # parents that another ref has led to need not be followed again, if all of them are kept
        seen = whole if retention == KEEP_ALL and before is None else set[str]()
        depth = 0
        pending = [tip]
        while pending:
            for checksum, commit, _ in history(pending.pop(0), read, seen):
                seen.add(checksum)
                # others only lead to what is before them
                if checksum in coming or repo.has(checksum, "commit"):
                    if not retention.keeps(depth, commit.timestamp):
                        break
                    kept.add(checksum)
                    depth += 1
                    if name and before is not None and (replaced := before(name, checksum)) is not None:
                        pending.append(replaced)
    return kept


def _entries(repo: Repo) -> Iterator[os.DirEntry[str]]:
    """Of all objects."""
    for directory in refs.list_directories(repo.fd, "objects"):
        with os.scandir(os.path.join(repo.path, "objects", directory)) as entries:
            yield from entries


def _unlink(repo: Repo, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path, dir_fd=repo.fd)


def _sync_objects(repo: Repo, directories: set[str]) -> None:
    for directory in directories:
        fd = os.open(f"objects/{directory}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=repo.fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _write_tombstone(repo: Repo, commit: str) -> None:
    """Says to who pulls that the commit was there (ostree-repo-prune.c)."""
    data = encode("a{sv}", [("commit", Variant("ay", commit.encode() + b"\0"))])
    path = f"objects/{object_name(commit, 'tombstone-commit')}"
    refs.replace_file(repo.fd, path, data, fsync=repo.config.fsync)


def _remove_deltas(repo: Repo, names: frozenset[str]) -> None:
    left = {name: digest for name, digest in list_deltas(repo.path).items() if name not in names}
    for target in {name.rpartition("-")[2] for name in names}:
        _rewrite_index(repo, target, leading_to(target, left))
    for name, directory in list(delta_directories(repo.path)):
        if name in names:
            fs.remove_tree(directory)


def _rewrite_index(repo: Repo, target: str, deltas: dict[str, bytes]) -> None:
    """Where there is one: clients ask there which deltas lead to a commit."""
    path = index_path(target)
    if not deltas:
        _unlink(repo, path)
    elif os.path.exists(os.path.join(repo.path, path)):
        refs.replace_file(repo.fd, path, encode_index(deltas), fsync=repo.config.fsync)
