"""Assigns each file object of a commit to one component, mostly a package, and tells how often that component changes.

Builds with the same content should have the same layers, so that clients fetch little; therefore the rule that chooses the
owner of an object depends on names only. Names and numbers are those of rpm-ostree's content metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from compose.errors import AssembleError, ImageError, RepositoryError, TreeError
from compose.events import Reporter
from compose.installed import extract_database
from compose.ostree.objects import Xattrs
from compose.ostree.repo import Repo
from compose.rpm.brought import BroughtFiles, brought_files
from compose.scratch import temporary_directory
from compose.tree import Entry, Tree, TreeEditor, TreeLookupError, join, parent_of

UNPACKAGED = "rpmostree-unpackaged-content"
"""The component of everything that comes from no package."""
INITRAMFS = "initramfs"
SEPARATOR = ","
"""Separates the names of a layer's components."""
ALWAYS = (1 << 32) - 1
"""The change frequency, and the change time offset, of a component that changes in every build."""

_COMPONENT = b"user.component"
_MODULES = "usr/lib/modules"
_OSTREE_BOOT = "usr/lib/ostree-boot"
# Paths that composing moves (see compose.postprocess), as /var and /boot belong to the machine: from, to.
_MOVED = (
    ("etc", "usr/etc"),
    ("boot", _OSTREE_BOOT),
    ("opt", "usr/lib/opt"),
    ("var/lib/alternatives", "usr/lib/alternatives"),
    ("var/lib/vagrant", "usr/lib/vagrant"),
    ("var/lib/selinux", "usr/etc/selinux"),
)
_HOUR, _DAY, _YEAR = 3600, 86400, 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of a commit that changes as a unit.

    identifier: NEVRA of a package. name: the package's, without version, so that it is the same in the next build. source:
    file name of the source RPM. change_time_offset: hours from the build of the oldest package to that of this one.
    change_frequency: number of changes within the year before the newest build. objects: checksums of the file objects that
    only this component has, 64 hex digits, sorted. size: their bytes. exclusive: must have a layer of its own.
    """

    identifier: str
    name: str
    source: str
    change_time_offset: int
    change_frequency: int
    objects: tuple[str, ...]
    size: int
    exclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentMeta:
    """The components of a commit that own objects, the largest first. sizes: bytes by object. architectures: rpm's names, one
    per package."""

    components: tuple[Component, ...]
    sizes: Mapping[str, int]
    architectures: tuple[str, ...] = ()

    def json(self) -> str:
        """The text that rpm-ostree writes for --write-contentmeta-json."""
        rows = [
            {
                "identifier": each.identifier,
                "name": each.name,
                "srcid": each.source,
                "change_time_offset": each.change_time_offset,
                "change_frequency": each.change_frequency,
                "size": each.size,
            }
            for each in self.components
        ]
        return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitFiles:
    """The files of a commit. paths: checksum of the object by relative path. sizes: bytes by object. tree: types, symlink
    targets and xattrs of all paths."""

    paths: Mapping[str, str]
    sizes: Mapping[str, int]
    tree: Tree


def read_content_meta(
    repo: Repo, commit: str, reporter: Reporter, *, workdir: str | None = None, where: str | None = None
) -> ContentMeta:
    """Find the components of a commit.

    workdir: for a temporary copy of the rpm database; by default the directory for temporary files. where: names the commit
    in errors; by default its repository and checksum.

    Raises ImageError when the commit has no packages or a user.component is invalid, RepositoryError when an object or the
    rpm database is missing or damaged, and StorageError.
    """
    packages = _packages(repo, commit, reporter, workdir, where if where is not None else f"{repo.path}: {commit}")
    return content_meta(read_files(repo, commit, reporter), packages)


def _packages(repo: Repo, commit: str, reporter: Reporter, workdir: str | None, where: str) -> Sequence[BroughtFiles]:
    with temporary_directory("compose-rpmdb-", workdir) as directory:
        packages: Sequence[BroughtFiles] = ()
        if extract_database(repo, commit, directory):
            try:
                packages = brought_files(directory, reporter)
            except AssembleError as error:
                raise RepositoryError(f"{where}: {error.message}", details=error.details) from error
    if not packages:
        raise ImageError(
            f"{where} has no packages in /usr/share/rpm/rpmdb.sqlite",
            hint="layers follow packages: give a commit or an image that was made from some",
        )
    return packages


def read_files(repo: Repo, commit: str, reporter: Reporter) -> CommitFiles:
    """List the files of a commit, reading the header but not the content of each object. Raises RepositoryError for objects
    that are missing or damaged."""
    rows = list(repo.walk(commit))
    entries: dict[str, Entry] = {}
    directories: dict[bytes, Entry] = {}
    files: dict[bytes, Entry] = {}
    sizes: dict[str, int] = {}
    with reporter.task("Reading file metadata", total=len(rows), unit="files") as task:
        for number, (path, checksum, meta) in enumerate(rows, 1):
            if meta is not None:
                if meta not in directories:
                    owner = repo.read_dirmeta(meta)
                    directories[meta] = Entry(mode=owner.mode, xattrs=owner.xattrs)
                entries[path] = directories[meta]
            else:
                if checksum not in files:
                    with repo.open_content(checksum) as content:
                        info = content.info
                        files[checksum] = Entry(mode=info.mode, xattrs=info.xattrs, target=info.target)
                        sizes[checksum.hex()] = content.size
                entries[path] = files[checksum]
            if not number % 1000:
                task.advance(1000)
        task.advance(len(rows) % 1000)
    paths = {path: checksum.hex() for path, checksum, meta in rows if meta is None}
    return CommitFiles(paths=paths, sizes=sizes, tree=Tree(entries))


class _Rank(IntEnum):
    INITRAMFS = 0
    EXCLUSIVE = 1
    PACKAGE = 2
    UNPACKAGED = 3


class _Owner(NamedTuple):
    """A candidate for owning an object; the least of several candidates wins."""

    rank: _Rank
    name: str
    identifier: str


_NOBODY = _Owner(_Rank.UNPACKAGED, UNPACKAGED, UNPACKAGED)


def content_meta(files: CommitFiles, packages: Sequence[BroughtFiles]) -> ContentMeta:
    """Assign the objects of files to components. packages: at least one. Raises ImageError when a user.component is invalid.

    An object shared by several paths goes to an exclusive component, else to a package, else to the unpackaged content; among
    several of the same rank to the one whose name sorts first.
    """
    known = {_identifier(package): package for package in packages}
    brought = _packaged(files, packages)
    exclusive = _exclusive(files.tree)
    owners: dict[str, _Owner] = {}
    for path, checksum in files.paths.items():
        owner = exclusive.get(path) or brought.get(path, _NOBODY)
        owners[checksum] = min(owner, owners.get(checksum, owner))
    kver = next((name for name in files.tree.children(_MODULES) if f"{_MODULES}/{name}/vmlinuz" in files.paths), None)
    if kver is not None and (initramfs := files.paths.get(f"{_MODULES}/{kver}/initramfs.img")):
        owners[initramfs] = _Owner(_Rank.INITRAMFS, INITRAMFS, f"{INITRAMFS} (kernel {kver})")
    objects: dict[_Owner, list[str]] = {}
    for checksum, owner in owners.items():
        objects.setdefault(owner, []).append(checksum)
    oldest = min(package.build_time for package in packages)
    newest = max(package.build_time for package in packages)
    components = []
    for owner, checksums in objects.items():
        source, offset, frequency = owner.identifier, ALWAYS, ALWAYS
        if owner.rank is _Rank.PACKAGE:
            package = known[owner.identifier]
            source = package.source_rpm
            offset = min((package.build_time - oldest) // _HOUR, ALWAYS)
            # changes dated after the newest build count too
            frequency = sum((newest - when) // _DAY <= _YEAR for when in package.changes)
        elif owner.rank is _Rank.EXCLUSIVE:
            source = f"component:{owner.name}"
        components.append(
            Component(
                identifier=owner.identifier,
                name=owner.name,
                source=source,
                change_time_offset=offset,
                change_frequency=frequency,
                objects=tuple(sorted(checksums)),
                size=sum(files.sizes[checksum] for checksum in checksums),
                exclusive=owner.rank is _Rank.EXCLUSIVE,
            )
        )
    return ContentMeta(
        components=tuple(sorted(components, key=lambda each: (-each.size, each.identifier, each.exclusive))),
        sizes=files.sizes,
        architectures=tuple(package.nevra.arch for package in packages),
    )


def _identifier(package: BroughtFiles) -> str:
    return str(package.nevra)


def _packaged(files: CommitFiles, packages: Sequence[BroughtFiles]) -> dict[str, _Owner]:
    """The package that contains each path; of several the one whose name sorts first."""
    editor = files.tree.edit()
    # links from where packages put files to where the commit has them, for resolving paths
    for path, target in _MOVED:
        entry = editor.get(path)
        # /opt is a symlink into /var, where clients get links to what the image has in /usr/lib/opt
        if (entry is None or entry.is_dir or path == "opt") and not editor.children(path):
            editor.remove(path)
            _add_link(editor, path, target)
    found: dict[str, _Owner] = {}
    directories: dict[str, str | None] = {}
    for package in packages:
        owner = _Owner(_Rank.PACKAGE, package.nevra.name, _identifier(package))
        for path in package.files:
            parent, _, name = path.rpartition("/")
            if parent not in directories:
                directories[parent] = _resolve(editor, parent)
            if (directory := directories[parent]) is None:
                continue
            actual = _kernel_path(join(directory, name), files.paths)
            if actual in files.paths:
                found[actual] = min(owner, found.get(actual, owner))
    return found


def _add_link(editor: TreeEditor, path: str, target: str) -> None:
    try:
        editor.add_symlink(path, f"/{target}", writer="")
    except TreeError:
        # a parent is not a directory in this commit
        return


def _resolve(editor: TreeEditor, path: str) -> str | None:
    """The directory that a path leads to, following the commit's symlinks; None if it leads nowhere."""
    try:
        return editor.resolve(path)
    except TreeLookupError:
        return None


def _kernel_path(path: str, paths: Mapping[str, str]) -> str:
    """Where a commit has a file: a kernel that its package has only in /boot is next to its modules."""
    prefix = f"{_OSTREE_BOOT}/vmlinuz-"
    if path.startswith(prefix) and path not in paths:
        return f"{_MODULES}/{path.removeprefix(prefix)}/vmlinuz"
    return path


def _exclusive(tree: Tree) -> dict[str, _Owner]:
    """The component of each path that has a user.component xattr, or is below a directory with one."""
    found: dict[str, _Owner] = {}
    for path, entry in tree.walk():
        name = _component(path, entry.xattrs)
        if name is not None:
            found[path] = _Owner(_Rank.EXCLUSIVE, name, name)
        elif path and (inherited := found.get(parent_of(path))) is not None:
            found[path] = inherited
    return found


def _component(path: str, xattrs: Xattrs) -> str | None:
    value = next((value for name, value in xattrs if name == _COMPONENT), None)
    if value is None:
        return None
    try:
        name = value.decode()
    except UnicodeDecodeError:
        name = ""
    if not name or SEPARATOR in name or not name.isprintable():
        raise ImageError(
            f"/{path}: user.component is {value!r}, which is not a valid name",
            hint="name the component with printable UTF-8 text without a comma",
        )
    return name
