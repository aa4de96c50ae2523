"""Differences between two commits: packages, and every path with its content, mode, owner, label and capabilities.

Directories whose objects are the same in both are skipped, so the cost depends on the number of changes.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from compose import metadata
from compose.errors import RepositoryError
from compose.ostree.objects import Commit, Dirmeta, Dirtree, FileInfo
from compose.ostree.repo import MOST_PATHS, Repo
from compose.rpm.compare import Change, package_changes
from compose.rpm.nevra import Nevra
from compose.tree import join

_LABEL = b"security.selinux"
_CAPABILITY = b"security.capability"
_EMPTY = Dirtree((), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Attributes of a path. kind: "directory", "file" or "symlink". mode: permission bits. label: SELinux context, "" for none.

    capability: value in hex. xattrs: (name, value in hex), sorted. size: of a file, bytes. content: a file's sha256, or a
    symlink's target.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    label: str
    capability: str
    xattrs: tuple[tuple[str, str], ...]
    size: int = 0
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """A path that differs. before: None for a new one. after: None for a removed one."""

    path: str
    before: Attributes | None
    after: Attributes | None

    @property
    def aspects(self) -> tuple[str, ...]:
        """Names of the attributes that differ: "mode", "owner", "label"...; only "kind" if that does. Empty for a new or
        removed path."""
        if self.before is None or self.after is None:
            return ()
        one, other = self.before, self.after
        if one.kind != other.kind:
            return ("kind",)
        owner = (one.uid, one.gid) != (other.uid, other.gid)
        names = ("content", "mode", "label", "capability", "xattrs")
        found = [name for name in names if getattr(one, name) != getattr(other, name)]
        return tuple([*found, "owner"] if owner else found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChange:
    """A package that differs. before: None for an added one. after: None for a removed one."""

    change: Change
    before: Nevra | None
    after: Nevra | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitDiff:
    """Differences between two commits. before, after: checksums. versions: of both, None where a commit has none. packages:
    None if a commit has no package list."""

    before: str
    after: str
    versions: tuple[str | None, str | None]
    packages: tuple[PackageChange, ...] | None
    paths: tuple[PathChange, ...]


def diff_commits(repo: Repo, before: str, after: str, *, other_repo: Repo | None = None) -> CommitDiff:
    """Compare two commits, given by checksum. other_repo: the repository of `after`, if not the same.

    Raises RepositoryError if an object is missing or damaged.
    """
    repos = (repo, other_repo or repo)
    keys = (metadata.PKGLIST, "version")
    one, other = repos[0].read_commit(before, keys), repos[1].read_commit(after, keys)
    paths: dict[str, PathChange] = {}
    for each in _path_changes(repos, (one.root_tree, one.root_meta), (other.root_tree, other.root_meta)):
        # a path that is a directory in only one commit comes twice, removed and added
        other_half = paths.get(each.path, each)
        paths[each.path] = replace(each, before=each.before or other_half.before, after=each.after or other_half.after)
    return CommitDiff(
        before=before,
        after=after,
        versions=(one.text("version"), other.text("version")),
        packages=changed_packages(packages_of(one), packages_of(other)),
        paths=tuple(paths[path] for path in sorted(paths)),
    )


def changed_packages(before: Sequence[Nevra] | None, after: Sequence[Nevra] | None) -> tuple[PackageChange, ...] | None:
    """Compare package lists; None if one of them is missing."""
    if before is None or after is None:
        return None
    return tuple(
        PackageChange(change=change, before=old, after=new) for change, old, new in package_changes(before, after)
    )


def packages_of(commit: Commit) -> list[Nevra] | None:
    """Return the package list in a commit's metadata, None if it has none. Raises RepositoryError if it is malformed."""
    rows = commit.get(metadata.PKGLIST)
    if rows is None:
        return None
    try:
        if not all(isinstance(field, str) for row in rows for field in row):
            raise ValueError("a field is not a string")
        return [
            Nevra(name=name, epoch=int(epoch or 0), version=version, release=release, arch=arch)
            for name, epoch, version, release, arch in rows
        ]
    except (TypeError, ValueError) as error:
        raise RepositoryError(f"{metadata.PKGLIST} of a commit is not a list of packages: {error}") from error


_Node = tuple[bytes, bytes]
"""Checksums of a directory's dirtree and dirmeta."""


def _path_changes(repos: tuple[Repo, Repo], before: _Node, after: _Node) -> Iterator[PathChange]:
    """In no particular order. Not recursive, because paths may be deeper than recursion can go."""
    pending: list[tuple[str, _Node | None, _Node | None]] = [("", before, after)]
    compared = 0
    while pending:
        path, old, new = pending.pop()
        if old == new:
            continue
        compared += 1
        if compared > MOST_PATHS:
            raise RepositoryError(
                f"the commits differ in more than {MOST_PATHS} directories, and so are not of systems"
            )
        sides = tuple(zip(repos, (old, new), strict=True))
        if old is None or new is None or old[1] != new[1]:
            one, other = (node and _attributes("directory", repo.read_dirmeta(node[1])) for repo, node in sides)
            yield PathChange(path=path, before=one, after=other)
        trees = [repo.read_dirtree(node[0]) if node else _EMPTY for repo, node in sides]
        files = [dict(tree.files) for tree in trees]
        for name in files[0].keys() | files[1].keys():
            checksums = [side.get(name) for side in files]
            if checksums[0] != checksums[1]:
                one, other = (
                    None if each is None else _of_file(repo, each) for repo, each in zip(repos, checksums, strict=True)
                )
                yield PathChange(path=join(path, name), before=one, after=other)
        below = [{name: (inner, meta) for name, inner, meta in tree.directories} for tree in trees]
        for name in below[0].keys() | below[1].keys():
            pending.append((join(path, name), below[0].get(name), below[1].get(name)))


def _of_file(repo: Repo, checksum: bytes) -> Attributes:
    with repo.open_content(checksum) as content:
        info = content.info
        if info.target is not None:
            return _attributes("symlink", info, content=info.target)
        digest, size = hashlib.sha256(), 0
        for piece in content.pieces:
            digest.update(piece)
            size += len(piece)
    return _attributes("file", info, size=size, content=digest.hexdigest())


def _attributes(kind: str, found: Dirmeta | FileInfo, *, size: int = 0, content: str = "") -> Attributes:
    xattrs = dict(found.xattrs)
    label = xattrs.pop(_LABEL, b"").rstrip(b"\0").decode(errors="replace")
    capability = xattrs.pop(_CAPABILITY, b"").hex()
    return Attributes(
        kind=kind,
        mode=stat.S_IMODE(found.mode),
        uid=found.uid,
        gid=found.gid,
        label=label,
        capability=capability,
        xattrs=tuple(sorted((name.decode(errors="replace"), value.hex()) for name, value in xattrs.items())),
        size=size,
        content=content,
    )
