"""Which component of a commit, a package mostly, each of its file objects belongs to, and how often that changes.

What is alike in two builds is to be in layers that are alike, so that clients fetch little: an object has one owner, found by
a rule that depends on names alone. The names and numbers are those of rpm-ostree's content metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from compose import fs
from compose.errors import AssembleError, ImageError, RepositoryError
from compose.events import Reporter
from compose.installed import extract_database
from compose.ostree.objects import Xattrs
from compose.ostree.repo import Repo
from compose.rpm.brought import BroughtFiles, brought_files
from compose.tree import Entry, Tree, TreeEditor, TreeLookupError, join, parent_of

UNPACKAGED = "rpmostree-unpackaged-content"
"""Of what no package brought."""
INITRAMFS = "initramfs"
SEPARATOR = ","
"""Between the names of the components of a layer."""
ALWAYS = (1 << 32) - 1
"""Frequency, and time of the last change, of what changes in every build."""

_COMPONENT = b"user.component"
_MODULES = "usr/lib/modules"
_OSTREE_BOOT = "usr/lib/ostree-boot"
# Where a commit has what packages put elsewhere: see compose.postprocess. /var and /boot are the machine's.
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
    """A part of a commit that changes as one.

    identifier: NEVRA of a package. name: of the package, without version; a component of another build has the same. source:
    file name of the source RPM. change_time_offset: hours from the build of the oldest package to its own.
    change_frequency: changes within the year before the newest build. objects: checksums of file objects, 64 hex digits,
    sorted; no other component has one of them. size: bytes of these. exclusive: wants a layer of its own.
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
    """The components of a commit that have objects, the largest first. sizes: bytes of each object. architectures: of all
    packages, as rpm calls them."""

    components: tuple[Component, ...]
    sizes: Mapping[str, int]
    architectures: tuple[str, ...] = ()

    def json(self) -> str:
        """As rpm-ostree writes it for --write-contentmeta-json."""
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
    """The files of a commit. paths: relative, each with the checksum of its object. sizes: bytes of each object. tree: types,
    targets of symlinks and xattrs of all paths."""

    paths: Mapping[str, str]
    sizes: Mapping[str, int]
    tree: Tree


def read_content_meta(
    repo: Repo, commit: str, reporter: Reporter, *, workdir: str | None = None, where: str | None = None
) -> ContentMeta:
    """workdir: where the rpm database may be for a moment, by default where temporary files are. where: what the commit is
    called in errors, by default by its repository.

    Raises ImageError when the commit has no packages, or a user.component is none, RepositoryError when something of it is
    missing or damaged, StorageError.
    """
    packages = _packages(repo, commit, reporter, workdir, where if where is not None else f"{repo.path}: {commit}")
    return content_meta(read_files(repo, commit, reporter), packages)


def _packages(repo: Repo, commit: str, reporter: Reporter, workdir: str | None, where: str) -> Sequence[BroughtFiles]:
    with fs.temporary_directory("compose-rpmdb-", workdir) as directory:
        packages: Sequence[BroughtFiles] = ()
        if extract_database(repo, commit, directory):
            try:
                packages = brought_files(directory, reporter)
            except AssembleError as error:
                raise RepositoryError(f"{where}: {error.message}", details=error.details) from error
    if not packages:
        raise ImageError(
            f"{where} has no packages in /usr/share/rpm/rpmdb.sqlite",
            hint="layers are made of packages: give what was made of some",
        )
    return packages


def read_files(repo: Repo, commit: str, reporter: Reporter) -> CommitFiles:
    """Looks at each object, and reads the content of none. Raises RepositoryError for what is missing or damaged."""
    rows = list(repo.walk(commit))
    entries: dict[str, Entry] = {}
    directories: dict[bytes, Entry] = {}
    files: dict[bytes, Entry] = {}
    sizes: dict[str, int] = {}
    with reporter.task("Looking at files", total=len(rows), unit="files") as task:
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
    paths = {path: checksum.hex() for path, checksum, meta in rows if meta is None}
    return CommitFiles(paths=paths, sizes=sizes, tree=Tree(entries))


class _Rank(IntEnum):
    INITRAMFS = 0
    EXCLUSIVE = 1
    PACKAGE = 2
    UNPACKAGED = 3


class _Owner(NamedTuple):
    """Of the owners that an object could have the least one has it."""

    rank: _Rank
    name: str
    identifier: str


_NOBODY = _Owner(_Rank.UNPACKAGED, UNPACKAGED, UNPACKAGED)


def content_meta(files: CommitFiles, packages: Sequence[BroughtFiles]) -> ContentMeta:
    """packages: at least one. Raises ImageError when a user.component is none.

    An object that several paths have goes to an exclusive component, else to a package, else to what is not packaged; of
    several to the one whose name comes first.
    """
    known = {_identifier(each): each for each in packages}
    brought = _packaged(files, packages)
    exclusive = _exclusive(files.tree)
    owners: dict[str, _Owner] = {}
    for path, checksum in files.paths.items():
        owner = exclusive.get(path) or brought.get(path, _NOBODY)
        owners[checksum] = min(owner, owners.get(checksum, owner))
    kver = next((each for each in files.tree.children(_MODULES) if f"{_MODULES}/{each}/vmlinuz" in files.paths), None)
    if kver is not None and (initramfs := files.paths.get(f"{_MODULES}/{kver}/initramfs.img")):
        owners[initramfs] = _Owner(_Rank.INITRAMFS, INITRAMFS, f"{INITRAMFS} (kernel {kver})")
    objects: dict[_Owner, list[str]] = {}
    for checksum, owner in owners.items():
        objects.setdefault(owner, []).append(checksum)
    oldest = min(each.build_time for each in packages)
    newest = max(each.build_time for each in packages)
    components = []
    for owner, checksums in objects.items():
        source, offset, frequency = owner.identifier, ALWAYS, ALWAYS
        if owner.rank is _Rank.PACKAGE:
            package = known[owner.identifier]
            source = package.source_rpm
            offset = min((package.build_time - oldest) // _HOUR, ALWAYS)
            # what is later than the newest build counts too
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
                size=sum(files.sizes[each] for each in checksums),
                exclusive=owner.rank is _Rank.EXCLUSIVE,
            )
        )
    return ContentMeta(
        components=tuple(sorted(components, key=lambda each: (-each.size, each.identifier, each.exclusive))),
        sizes=files.sizes,
        architectures=tuple(each.nevra.arch for each in packages),
    )


def _identifier(package: BroughtFiles) -> str:
    return str(package.nevra)


def _packaged(files: CommitFiles, packages: Sequence[BroughtFiles]) -> dict[str, _Owner]:
    """Path to the package that brought it; to the first of several by name."""
    editor = files.tree.edit()
    for path, place in _MOVED:
        entry = editor.get(path)
        # /opt leads into /var, where clients have links to what is in the image
        if (entry is None or entry.is_dir or path == "opt") and not editor.children(path):
            editor.remove(path)
            _put_link(editor, path, place)
    found: dict[str, _Owner] = {}
    directories: dict[str, str | None] = {}
    for package in packages:
        owner = _Owner(_Rank.PACKAGE, package.nevra.name, _identifier(package))
        for path in package.files:
            above, _, name = path.rpartition("/")
            if above not in directories:
                directories[above] = _resolved(editor, above)
            if (directory := directories[above]) is None:
                continue
            place = _kernel_place(join(directory, name), files.paths)
            if place in files.paths:
                found[place] = min(owner, found.get(place, owner))
    return found


def _put_link(editor: TreeEditor, path: str, place: str) -> None:
    try:
        editor.add_symlink(path, f"/{place}", writer="")
    except ValueError:
        # below what is no directory in this commit
        return


def _resolved(editor: TreeEditor, path: str) -> str | None:
    """A directory, the links of the commit followed; None for what leads nowhere."""
    try:
        return editor.resolve(path)
    except TreeLookupError:
        return None


def _kernel_place(path: str, paths: Mapping[str, str]) -> str:
    """The kernel of a package that puts it into /boot alone is beside its modules."""
    prefix = f"{_OSTREE_BOOT}/vmlinuz-"
    if path.startswith(prefix) and path not in paths:
        return f"{_MODULES}/{path.removeprefix(prefix)}/vmlinuz"
    return path


def _exclusive(tree: Tree) -> dict[str, _Owner]:
    """Path to the component that it, or the nearest directory above it, says to be of."""
    found: dict[str, _Owner] = {}
    for path, entry in tree.walk():
        name = _component(path, entry.xattrs)
        if name is not None:
            found[path] = _Owner(_Rank.EXCLUSIVE, name, name)
        elif path and (above := found.get(parent_of(path))) is not None:
            found[path] = above
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
            f"/{path}: user.component is {value!r}, which names no component",
            hint="give it the name of a layer: text without a comma",
        )
    return name
