"""A package on its way from deb to RPM."""

from __future__ import annotations

import enum
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path


class Kind(enum.Enum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


CONFIG = "%config(noreplace)"
# The file lists of accounts and policies change on the installed system.
CHANGES = "%verify(not md5 size mtime)"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One line of the file list. mode: permission bits; flags: attributes as a spec has them ("%doc")."""

    path: str
    kind: Kind
    mode: int
    user: str = "root"
    group: str = "root"
    flags: list[str] = field(default_factory=list)
    capabilities: str | None = None


@dataclass(frozen=True, slots=True)
class Ghost:
    """A file the package owns and does not ship."""

    path: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    home: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """What update-alternatives would be told; paths below /usr, absolute."""

    link: str
    target: str
    priority: int


@dataclass(frozen=True, slots=True)
class FileTrigger:
    """kind: a directive of a spec ("transfiletriggerin"); body: the shell script, or "-p PROGRAM"."""

    kind: str
    priority: int
    prefixes: tuple[str, ...]
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a conversion knows of the others. names: of all packages of the set; policy: the built SELinux policy's tree."""

    names: frozenset[str]
    policy: Path


@dataclass(slots=True, kw_only=True)
class Package:
    """root: the unpacked tree, whose entries are `files` by absolute path; mtime: of what is added (seconds).

    scripts: sections of a spec ("post") -> body; a first line "-p PROGRAM" chooses the interpreter.
    The dependency lists are in RPM's syntax.
    """

    name: str
    root: Path
    version: str
    release: str
    arch: str
    summary: str
    description: str
    epoch: str | None = None
    section: str = "misc"
    homepage: str | None = None
    source: str = ""
    mtime: int = 0
    files: dict[str, Entry] = field(default_factory=dict)
    ghosts: list[Ghost] = field(default_factory=list)
    scripts: dict[str, str] = field(default_factory=dict)
    triggers: list[FileTrigger] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    sysusers: list[str] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    runs_ldconfig: bool = False
    requires_pre: list[str] = field(default_factory=list)
    requires: list[str] = field(default_factory=list)
    recommends: list[str] = field(default_factory=list)
    suggests: list[str] = field(default_factory=list)
    enhances: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    provides: list[str] = field(default_factory=list)
    obsoletes: list[str] = field(default_factory=list)

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-{self.release}.{self.arch}.rpm"

    def place(self, path: str) -> Path:
        return self.root / path.removeprefix("/")

    def text(self, path: str) -> str:
        return self.place(path).read_text()

    def script(self, section: str, body: str) -> None:
        """Append to a scriptlet."""
        self.scripts[section] = self.scripts.get(section, "") + body

    def add_file(
        self, path: str, content: str | bytes, *, mode: int = 0o644, group: str = "root", flags: tuple[str, ...] = ()
    ) -> None:
        """Ship a file that the deb does not; replaces one it does."""
        place = self._make_room(path)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)
        os.utime(place, (self.mtime, self.mtime))
        self.files[path] = Entry(path=path, kind=Kind.FILE, mode=mode, group=group, flags=list(flags))

    def add_link(self, path: str, target: str) -> None:
        place = self._make_room(path)
        place.symlink_to(target)
        os.utime(place, (self.mtime, self.mtime), follow_symlinks=False)
        self.files[path] = Entry(path=path, kind=Kind.LINK, mode=0o777)

    def add_directory(self, path: str, *, mode: int = 0o755, group: str = "root") -> None:
        place = self.place(path)
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(mode)
        self.files[path] = Entry(path=path, kind=Kind.DIRECTORY, mode=mode, group=group)

    def drop(self, path: str) -> None:
        """Do not ship a path, nor what is below it."""
        for each in [each for each in self.files if each == path or each.startswith(path + "/")]:
            del self.files[each]
        place = self.place(path)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def move(self, path: str, to: str) -> None:
        place = self.place(to)
        place.parent.mkdir(parents=True, exist_ok=True)
        self.place(path).rename(place)
        entry = self.files.pop(path)
        entry.path = to
        self.files[to] = entry

    def set_mode(self, path: str, mode: int) -> None:
        self.files[path].mode = mode
        self.place(path).chmod(mode)

    def _make_room(self, path: str) -> Path:
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        return place
