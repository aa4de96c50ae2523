"""Inspection of existing commits and root directories: lint, diff, blame, size."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compose import fs, initramfs, records
from compose.blobs import BlobStore
from compose.cachedir import CacheDir
from compose.errors import LabelError, RepositoryError, UsageError
from compose.events import Reporter
from compose.label import Audit, audit, label_of
from compose.layers import CommitContents, survey
from compose.lint.check import lint_tree
from compose.lint.commit import repository as lint_repository
from compose.lint.subject import Contents, Finding
from compose.oci.reference import ImageReference
from compose.oci.skopeo import Access
from compose.oci.source import read_source
from compose.ostree.repo import Repo
from compose.postprocess import etc
from compose.records import Run
from compose.rootfs import read_rootfs
from compose.sizes import size
from compose.systemdiff import SystemDiff, diff_systems
from compose.tree import BlobRef, Tree
from compose.weight import Row, Share, directory_of, rows, sources, weigh

_MOST_READ = 4 << 30
"""Bytes of a file in a root directory; an initramfs may have hundreds of MB."""
_RESOLVER = "run/systemd/resolve/stub-resolv.conf"
"""podman build mounts it into the container, and some versions leave its place in the image (bootc#2050)."""
_RESOLVER_DIRECTORIES = ("run/systemd/resolve", "run/systemd")


def lint_commit(path: str, revision: str, cachedir: str, reporter: Reporter) -> tuple[Finding, ...]:
    """Findings in a commit, its labels, its metadata and its repository. Raises RepositoryError."""
    with Repo.open(path) as repo, CacheDir(cachedir).shared(reporter) as cache:
        checksum = repo.commit_of(revision)
        commit = repo.read_commit(checksum)
        tree, contents = survey(repo, checksum)
        labels, unchecked = _audited(tree, contents, cache)
        found = lint_tree(tree, contents, bootable=bool(commit.get("ostree.bootable")), commit=commit, labels=labels)
        return tuple(sorted((*found, *unchecked, *lint_repository(repo, revision, checksum))))


def _audited(tree: Tree, contents: CommitContents, cache: CacheDir) -> tuple[Audit | None, tuple[Finding, ...]]:
    """The audit of a tree's labels, if it has any, or findings that say why it cannot be made."""
    if all(label_of(entry) is None for entry in tree.entries.values()):
        return None, ()
    try:
        with cache.scratch() as work:
            return audit(tree, contents, work, Reporter()), ()
    except LabelError as error:
        return None, (Finding(rule="label", path="/usr/etc/selinux", message=f"labels cannot be checked: {error}"),)


class _Unhashed:
    """Contents of a root directory's files, of which only those that a rule asks for are read."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    def read(self, ref: BlobRef) -> bytes:
        path = self._store.source(ref)
        if ref.size > _MOST_READ:
            raise UsageError(
                f"{path} has {size(ref.size)}, too much to look at", hint="is it damaged? files of this name are small"
            )
        with fs.read_errors(path), open(self._store.open(ref), "rb") as file:
            return file.read()


def lint_rootfs(directory: str, cachedir: str, reporter: Reporter, *, bootable: bool) -> tuple[Finding, ...]:
    """Findings in a root directory as `compose postprocess` or `compose rootfs` leaves it. Raises UsageError when it is not a
    root directory, StorageError."""
    with CacheDir(cachedir).shared(reporter) as cache:
        store = BlobStore(cache.join("blobs"))
        root = read_rootfs(directory, store, reporter, writer="rootfs", jobs=1, hashed=False)
        return _lint_root(root.tree, _Unhashed(store), bootable)


def lint_image(
    image: ImageReference, cachedir: str, reporter: Reporter, access: Access, *, bootable: bool
) -> tuple[Finding, ...]:
    """Findings in what a container image shows as its root directory. Raises ImageError when it is missing, damaged or not that
    of a system, StorageError, and UsageError when reading it takes skopeo, which is not installed."""
    with CacheDir(cachedir).shared(reporter) as cache, cache.scratch() as work:
        # a store of its own: composes have no use for these blobs
        store = BlobStore(os.path.join(work, "blobs"))
        source = read_source(image, store, reporter, writer="image", without=("sysroot",), access=access)
        editor = source.root.tree.edit()
        if "var/tmp" in editor and not editor.children("var/tmp"):
            # images of commits have it for programs in a container; clients do not get it from the image
            editor.remove("var/tmp")
        if editor.remove(_RESOLVER):
            for directory in _RESOLVER_DIRECTORIES:
                if not editor.children(directory):
                    editor.remove(directory)
        return _lint_root(editor.build(), store, bootable)


def _lint_root(tree: Tree, store: Contents, bootable: bool) -> tuple[Finding, ...]:
    # the root of a container image has /etc in place
    plain_etc = "etc" in tree and "usr/etc" not in tree
    return lint_tree(etc.move(tree) if plain_etc else tree, store, bootable=bootable)


def diff_revisions(path: str, before: str, after: str) -> SystemDiff:
    """The difference between two commits of a repository. Raises RepositoryError."""
    with Repo.open(path) as repo:
        return diff_systems(repo, repo.commit_of(before), repo.commit_of(after), Reporter())


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """Who made a path of a commit.

    path: in the commit. writer: see tree.Entry. place: FILE:LINE of the treefile that asked for it, or "". runs: programs
    that changed it, in order. holds: for an initramfs, (writer, number of its files whose path that writer made in the
    commit), largest first; the writer is "" for files that the commit does not have.
    """

    path: str
    writer: str
    place: str
    runs: tuple[Run, ...]
    holds: tuple[tuple[str, int], ...] = ()


def blame(repository: str, revision: str, path: str) -> Blame:
    """Find out who made a path. Raises RepositoryError, and UsageError when the commit has no such path."""
    with Repo.open(repository) as repo:
        commit = repo.commit_of(revision)
        known = records.read(repo, commit)
        wanted = os.path.normpath(path).strip("/")
        found = next((each for each in (wanted, f"usr/{wanted}") if each in known.writers), None)
        if found is None:
            raise UsageError(
                f"{revision} has no {path}", hint="give a path as in the commit: /usr/etc, no symlinks on the way"
            )
        image = repo.read_file(commit, found) if os.path.basename(found) == "initramfs.img" else None
    writer = known.writers[found]
    return Blame(
        path=found,
        writer=writer,
        place=_place_of(writer, found, known.places),
        runs=records.runs_that_changed(known, found),
        holds=_holds(image, known.writers) if image is not None else (),
    )


def _holds(image: bytes, writers: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Count the files in an initramfs by the writer of their paths; nothing when it cannot be read."""
    counts: collections.Counter[str] = collections.Counter()
    with contextlib.suppress(ValueError):
        for path in initramfs.files(image):
            counts[writers.get(f"usr/{path}" if path.startswith("etc/") else path, "")] += 1
    return tuple(sorted(counts.items(), key=lambda row: (-row[1], row[0])))


def _place_of(writer: str, path: str, places: Mapping[str, str]) -> str:
    kind, _, rest = writer.partition(":")
    if kind == "package":
        return places.get(f"packages {rest.rsplit('-', 2)[0]}", "")
    if kind == "treefile":
        return places.get(rest, "")
    if writer == "step:add-files":
        names = (path, path.removeprefix("usr/"))
        return next((places[f"add-files {name}"] for name in names if f"add-files {name}" in places), "")
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """The size of a commit, compared with another one.

    rows: by source or directory. before: total of the other commit, None without one. archive: are download sizes known?
    files: (path, bytes, source) of each file; the source is "" in a commit without a record.
    """

    rows: tuple[Row, ...]
    now: Share
    before: Share | None
    archive: bool
    files: tuple[tuple[str, int, str], ...]


def weigh_commit(
    path: str, revision: str, reporter: Reporter, *, before: str | None = None, depth: int | None = None
) -> Weighed:
    """Sizes in a commit by package and step or, with a depth, by directory down to that depth.

    before: another commit of the repository. Raises RepositoryError, also for a commit without a record when no depth is
    given.
    """
    with Repo.open(path) as repo:

        def source_of(commit: str) -> Callable[[str], str]:
            try:
                return sources(records.read(repo, commit).writers)
            except RepositoryError:
                if depth is None:
                    raise
                return lambda path: ""

        commits = [repo.commit_of(each) for each in (revision, before) if each is not None]
        # the files of the other commit are not listed
        known = [source_of(each) for each in (commits if depth is None else commits[:1])]
        groups: list[Callable[[str], str]] = known
        if depth is not None:
            groups = [functools.partial(directory_of, depth=depth)] * len(commits)
        weights = [weigh(repo, each, reporter) for each in commits]
    shares = [weight.by(group) for weight, group in zip(weights, groups, strict=True)]
    weight, *others = weights
    source = known[0]
    return Weighed(
        rows=rows(shares[0], shares[1] if others else None),
        now=weight.total,
        before=others[0].total if others else None,
        archive=weight.archive,
        files=tuple((path, share.size, source(path)) for path, share in weight.files),
    )
