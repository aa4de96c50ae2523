"""What is in a deb: its control files, and its tree as a merged /usr has it."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.universe.errors import UniverseError
from tests.universe.model import Entry, Kind

_MERGED = re.compile(r"(bin|sbin|lib|lib32|lib64|libo32|libx32)(/|$)")


@dataclass(frozen=True, slots=True)
class Control:
    """fields: of the control file; members: the other files (postinst, conffiles, triggers) by name."""

    fields: dict[str, str]
    members: dict[str, str]


@dataclass(frozen=True, slots=True)
class Tree:
    """newest: modification time of the youngest entry, in seconds."""

    files: dict[str, Entry]
    newest: int


def merged(path: str) -> str:
    """Where a relative or absolute path lies when /bin, /lib... are links into /usr."""
    slash, relative = ("/", path[1:]) if path.startswith("/") else ("", path)
    return f"{slash}usr/{relative}" if _MERGED.match(relative) else path


def parse_control(text: str) -> dict[str, str]:
    """The first stanza; continuation lines keep their newline and lose one leading blank."""
    fields: dict[str, str] = {}
    key = None
    for line in text.splitlines():
        if line[:1] in (" ", "\t") and key:
            fields[key] += "\n" + line[1:]
        elif ":" in line:
            key, _, value = line.partition(":")
            fields[key] = value.strip()
    return fields


def read_control(deb: Path) -> Control:
    done = subprocess.run(["dpkg-deb", "--ctrl-tarfile", str(deb)], capture_output=True, check=False)
    if done.returncode:
        raise UniverseError(f"{deb.name}: {done.stderr.decode(errors='replace').strip()}")
    members = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                members[member.name.removeprefix("./")] = stream.read().decode(errors="replace")
    if "control" not in members:
        raise UniverseError(f"{deb.name}: has no control file")
    return Control(parse_control(members.pop("control")), members)


def unpack(deb: Path, root: Path) -> Tree:
    """Unpack below root, owned by the caller; owners and modes are in the entries.

    Raises UniverseError for what a package must not have: a device, a path out of root.
    """
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|", bufsize=1 << 20) as archive:
            tree = _extract(archive, deb, root)
    if process.returncode:
        raise UniverseError(f"{deb.name}: dpkg-deb could not read its tree")
    return tree


def _extract(archive: tarfile.TarFile, deb: Path, root: Path) -> Tree:
    files: dict[str, Entry] = {}
    directories: list[tuple[Path, tarfile.TarInfo]] = []
    newest = 0
    for member in archive:
        name = _relative(member.name)
        if not name:
            continue
        if ".." in name.split("/"):
            raise UniverseError(f"{deb.name}: {member.name} is outside")
        if not (member.issym() and "/" not in name):  # the links that merge /usr are what they are
            name = merged(name)
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not member.isdir():
            place.unlink(missing_ok=True)
        newest = max(newest, int(member.mtime))
        kind = Kind.FILE
        if member.isdir():
            kind = Kind.DIRECTORY
            place.mkdir(exist_ok=True)
            directories.append((place, member))
        elif member.issym():
            kind = Kind.LINK
            place.symlink_to(member.linkname)
            os.utime(place, (member.mtime, member.mtime), follow_symlinks=False)
        elif member.islnk():
            place.hardlink_to(root / merged(_relative(member.linkname)))
        elif member.isreg():
            stream = archive.extractfile(member)
            assert stream is not None
            with place.open("wb") as output:
                shutil.copyfileobj(stream, output, 1 << 20)
            place.chmod(member.mode & 0o7777)
            os.utime(place, (member.mtime, member.mtime))
        else:
            raise UniverseError(f"{deb.name}: {member.name} is a special file")
        files["/" + name] = Entry(
            path="/" + name,
            kind=kind,
            mode=member.mode & 0o7777,
            user=member.uname or "root",
            group=member.gname or "root",
        )
    for place, member in reversed(directories):
        place.chmod(member.mode & 0o7777)
        os.utime(place, (member.mtime, member.mtime))
    return Tree(files, newest)


def _relative(name: str) -> str:
    return name.removeprefix(".").strip("/") if name.startswith("./") or name == "." else name.strip("/")
