"""Merges manifests by RPM's rules: decides which package's file is at which path.

Several packages may ship the same path, including directories, if type, mode, owner and content (or target) are the same. Of
two ELF files of different word sizes the 64-bit one stays (file colors). A path below another package's symlink to a directory
(merged /usr) is resolved into that directory. Rules: rpmfilesCompare(), handleOverlappedFiles() and handleColorConflict() of
librpm 6.1. librpm compares each file with that of the package installed before it: of a shared file, the first is created, the
second is not, and the third is again, because the one before it was not. A %ghost does not conflict with anything.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from compose.assemble.options import AssembleOptions, Dropped
from compose.errors import AssembleError, TreeError
from compose.rpm.database import FileState
from compose.rpm.manifest import FileFlag, ManifestFile, PackageManifest, ScriptKind
from compose.tree import Entry, Tree, join
from compose.values import value

_MAX_LINKS = 40
_64_BIT = 2
_SHOWN = 20
# Paths that rpm-ostree's importer changes.
_IMPORTED = {
    "opt/": "usr/lib/opt/",
    "boot/": "usr/lib/ostree-boot/",
    "var/lib/selinux/targeted/": "usr/etc/selinux/targeted/",
}
_GHOST, _DOC, _LICENSE = int(FileFlag.GHOST), int(FileFlag.DOC), int(FileFlag.LICENSE)


@value
class Owner:
    """User and group names of an entry, and the package that ships it."""

    user: str
    group: str
    package: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Result of merge(). tree: all entries with their final modes and capabilities, still owned by root. owners: by path.
    skipped: (package, path in its manifest) of files that are not created for it: dropped, or created for another package.
    absent: those of them that are recorded as not installed, because they are dropped or of the other word size."""

    tree: Tree
    owners: dict[str, Owner]
    dropped: tuple[Dropped, ...]
    skipped: frozenset[tuple[str, str]]
    absent: frozenset[tuple[str, str]]


@value
class _Placed:
    package: PackageManifest
    file: ManifestFile

    @property
    def name(self) -> tuple[str, str]:
        """(package, path in its manifest)."""
        return str(self.package.nevra), self.file.path

    @property
    def is_ghost(self) -> bool:
        return bool(int(self.file.flags) & _GHOST)


def merge(
    ordered: Sequence[PackageManifest],
    options: AssembleOptions,
    on_states: Callable[[Mapping[tuple[str, str], FileState]], None] = lambda _: None,
) -> Merged:
    """Merge packages, given in install order. on_states: called once with the state of each file that is not in the normal
    state, by (package, path in its manifest). Raises AssembleError listing conflicts, with both packages."""
    dropped: list[Dropped] = []
    kept = [(package, _kept_files(package, options, dropped)) for package in ordered]
    states = {(file.package, file.path): FileState.NOT_INSTALLED for file in dropped}
    files = [_Placed(package=package, file=file) for package, some in kept for file in some]
    # a %ghost matters only if another package ships the path
    shipped = {placed.file.path for placed in files if not placed.is_ghost}
    files = [placed for placed in files if placed.file.path in shipped]
    links = {placed.file.path: placed for placed in files if placed.file.target is not None and not placed.is_ghost}
    resolver = _Resolver(links, _early_links(ordered))
    chosen: dict[str, _Placed] = {}
    # the last file at each path, and whether it is created
    last: dict[str, tuple[_Placed, bool]] = {}
    skipped = set(states)
    conflicts: list[str] = []
    for placed in files:
        path = resolver.place(placed)
        before = last.get(path)
        if before is not None and _is_narrower(placed, before[0]):
            skipped.add(placed.name)
            states[placed.name] = FileState.WRONG_COLOR
            continue
        created = before is None or _is_created(path, *before, placed, conflicts)
        if before is not None and _is_narrower(before[0], placed):
            states[before[0].name] = FileState.WRONG_COLOR
        last[path] = (placed, created)
        if not created:
            skipped.add(placed.name)
        elif not placed.is_ghost:
            chosen[path] = placed
    chosen |= {path: placed for path, placed in resolver.followed.items() if path not in chosen}
    if conflicts:
        raise AssembleError.of(
            conflicts,
            f"{len(conflicts)} file conflicts between packages",
            most=_SHOWN,
            hint="exclude one of the packages, or drop its files with remove-from-packages",
        )
    on_states(states)
    tree, owners = _build(chosen, ima=options.ima)
    return Merged(
        tree=tree, owners=owners, dropped=tuple(dropped), skipped=frozenset(skipped), absent=frozenset(states)
    )


def _kept_files(package: PackageManifest, options: AssembleOptions, dropped: list[Dropped]) -> list[ManifestFile]:
    patterns = [
        re.compile(pattern)
        for name, expressions in options.remove_from_packages
        if name == package.nevra.name
        for pattern in expressions
    ]
    kept: list[ManifestFile] = []
    matched: dict[str, bool] = {}

    def drop(file: ManifestFile, reason: str) -> None:
        dropped.append(Dropped(path=file.path, package=str(package.nevra), reason=reason))

    for file in package.files:
        # as an int: the enum's operators take as long as everything else here
        flags = int(file.flags)
        if flags & _GHOST:
            kept.append(file)
        elif flags & _DOC and not options.documentation and not flags & _LICENSE:
            # a %license stays, which may be in a directory of documentation
            drop(file, "documentation: false")
        elif not flags & _LICENSE and not _wanted_language(file.lang, options.install_langs):
            drop(file, "install-langs")
        elif patterns and _is_removed(file, patterns, matched):
            drop(file, "remove-from-packages")
        elif stat.S_ISCHR(file.mode) or stat.S_ISBLK(file.mode):
            if not options.ignore_devices:
                raise AssembleError(
                    f"{package.nevra}: /{file.path} is a device, which a commit cannot hold",
                    hint="ignore-devices: true drops it",
                )
            drop(file, "device")
        elif options.readonly_executables and stat.S_ISREG(file.mode) and file.mode & 0o111:
            kept.append(replace(file, mode=file.mode & ~0o222))
        else:
            kept.append(file)
    return kept


def _early_links(ordered: Sequence[PackageManifest]) -> dict[str, _Placed]:
    """%ghost symlinks of packages with a %pretrans, which may create them. Those that no path leads through are left to it."""
    return {
        file.path: _Placed(package=package, file=file)
        for package in ordered
        if any(scriptlet.kind is ScriptKind.PRETRANS for scriptlet in package.scriptlets)
        for file in package.files
        if file.flags & FileFlag.GHOST and file.target is not None
    }


def _wanted_language(lang: str, wanted: Sequence[str] | None) -> bool:
    """librpm's rule (skipInstallFiles() in rpmte.c): one of the file's languages, "a|b", is a prefix of a wanted one."""
    if not lang or wanted is None or "all" in wanted:
        return True
    prefixes = tuple(prefix for prefix in lang.split("|") if prefix)
    return any(locale.startswith(prefixes) for locale in wanted)


def _is_removed(file: ManifestFile, patterns: Sequence[re.Pattern[str]], matched: dict[str, bool]) -> bool:
    """Do expressions of remove-from-packages match a file, or a directory that it is in? matched: results so far, by name.

    rpm-ostree applies them as the filter of a libostree checkout, where names of directories end with a slash, and everything
    below a directory that matches is omitted. Without the slash, only the directory's own entry is.
    """
    for path in _spellings(file.path):
        names = [path[: index + 1] for index, char in enumerate(path) if char == "/"]
        names += [path, f"{path}/"] if stat.S_ISDIR(file.mode) else [path]
        for name in names:
            if name not in matched:
                matched[name] = any(pattern.search(name) for pattern in patterns)
            if matched[name]:
                return True
    return False


def _spellings(path: str) -> Iterator[str]:
    """Spellings of a path that remove-from-packages may match: the path itself (/usr/etc for /etc), and the one to which
    rpm-ostree's importer changes it."""
    if path == "etc" or path.startswith("etc/"):
        yield f"/usr/{path}"
        return
    yield f"/{path}"
    for prefix, imported in _IMPORTED.items():
        if path.startswith(prefix):
            yield f"/{imported}{path.removeprefix(prefix)}"


class _Resolver:
    """Resolves the paths of packages through symlinks.

    links: those that packages ship. early: those that a %pretrans may create. followed: the symlinks that were followed so far.
    """

    def __init__(self, links: dict[str, _Placed], early: dict[str, _Placed]) -> None:
        self._early = early.keys() - links.keys()
        self._links = {**early, **links}
        self._known: dict[str, str] = {}
        self.followed: dict[str, _Placed] = {}

    def place(self, placed: _Placed) -> str:
        parent, _, name = placed.file.path.rpartition("/")
        path = join(self._directory(parent, placed), name)
        # rpm follows root's symlink at the path of a directory
        return self._directory(path, placed) if path in self._early and stat.S_ISDIR(placed.file.mode) else path

    def _directory(self, path: str, placed: _Placed) -> str:
        if not path:
            return ""
        known = self._known.get(path)
        if known is not None:
            return known
        done: list[str] = []
        todo = list(reversed(path.split("/")))
        hops = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if done:
                    done.pop()
                continue
            done.append(part)
            link = self._links.get("/".join(done))
            if link is None:
                continue
            hops += 1
            if link.package is placed.package or hops > _MAX_LINKS:
                fault = "its own symlink" if hops <= _MAX_LINKS else "a loop of symlinks at"
                raise AssembleError(
                    f"{placed.package.nevra}: /{placed.file.path} leads through {fault} /{'/'.join(done)}"
                )
            if (link.file.user, link.file.group) != ("root", "root"):
                raise AssembleError(
                    f"{placed.package.nevra}: /{placed.file.path} leads through /{'/'.join(done)}, a symlink of "
                    f"{link.package.nevra} that belongs to {link.file.user}:{link.file.group}, not to root"
                )
            self.followed["/".join(done)] = link
            assert link.file.target is not None
            done = [] if link.file.target.startswith("/") else done[:-1]
            todo.extend(reversed(link.file.target.split("/")))
        found = "/".join(done)
        if not hops:
            # no symlink on the way, so it is the same for every package
            self._known[path] = found
        return found


def _is_narrower(first: _Placed, second: _Placed) -> bool:
    """Whether the two are different ELF files, and the first gives way to the second, which is 64-bit."""
    one, two = first.file, second.file
    if not one.color or one.color == _64_BIT or two.color != _64_BIT:
        return False
    return not first.is_ghost and not second.is_ghost and _difference(one, two) is not None


def _is_created(path: str, first: _Placed, first_created: bool, second: _Placed, conflicts: list[str]) -> bool:
    """Whether the second of two files at a path is created. first: that of the package installed before."""
    if first.is_ghost or second.is_ghost:
        return first.is_ghost or not first_created
    one, two = first.file, second.file
    difference = _difference(one, two)
    if difference is None:
        return not first_created
    if _is_narrower(first, second):
        return True
    conflicts.append(f"/{path} of {first.package.nevra} and of {second.package.nevra} differ in {difference}")
    return False


def _difference(one: ManifestFile, two: ManifestFile) -> str | None:
    """The difference that makes two files conflict for rpm, or None. mtime, capabilities and a symlink's mode do not count."""
    types = [_type(file) for file in (one, two)]
    if types[0] != types[1]:
        return f"type: {types[0]} and {types[1]}"
    if one.target is None and one.mode != two.mode:
        return f"mode: {stat.S_IMODE(one.mode):04o} and {stat.S_IMODE(two.mode):04o}"
    if (one.user, one.group) != (two.user, two.group):
        return f"owner: {one.user}:{one.group} and {two.user}:{two.group}"
    if one.target != two.target:
        return f"target: {one.target} and {two.target}"
    digests = [file.blob.digest if file.blob else None for file in (one, two)]
    return None if digests[0] == digests[1] else "content"


def _type(file: ManifestFile) -> str:
    if stat.S_ISDIR(file.mode):
        return "a directory"
    return "a file" if file.target is None else "a symlink"


def _xattrs(file: ManifestFile, *, ima: bool) -> tuple[tuple[bytes, bytes], ...]:
    # packages record them for directories and symlinks too, but librpm sets those of regular files only
    capability = ((b"security.capability", file.caps),) if file.caps and stat.S_ISREG(file.mode) else ()
    return (*capability, (b"security.ima", file.ima)) if ima and file.ima else capability


def _build(chosen: dict[str, _Placed], *, ima: bool) -> tuple[Tree, dict[str, Owner]]:
    editor = Tree.empty().edit()
    owners: dict[str, Owner] = {}
    package, nevra, writer = None, "", ""
    # parents first, so that the editor does not make up a directory that a package ships
    for path in sorted(chosen):
        placed = chosen[path]
        file = placed.file
        if placed.package is not package:
            package, nevra = placed.package, str(placed.package.nevra)
            writer = f"package:{nevra}"
        entry = Entry(
            mode=file.mode if file.target is None else stat.S_IFLNK | 0o777,
            xattrs=_xattrs(file, ima=ima),
            blob=file.blob,
            target=file.target,
            mtime=file.mtime,
            link=f"{nevra}:{file.link}" if file.link else "",
            writer=writer,
        )
        try:
            editor.put(path, entry)
        except TreeError as error:
            raise AssembleError(f"{nevra}: /{path} cannot be installed: {error}") from error
        owners[path] = Owner(user=file.user, group=file.group, package=nevra)
    return editor.build(), owners
