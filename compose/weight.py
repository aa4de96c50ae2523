"""The size of a commit, and what contributes to it: bytes of its files, each object counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.repo import Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a commit. objects: files and symlinks; identical ones count once. size: of regular files, bytes. stored: bytes
    of the objects in an archive repository, which is what clients without them download; 0 in other repositories."""

    objects: int = 0
    size: int = 0
    stored: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(
            objects=self.objects + other.objects, size=self.size + other.size, stored=self.stored + other.stored
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """The size of a commit. archive: is its repository an archive? files: (path, share) in the order of Repo.walk(); only the
    first path of each object."""

    commit: str
    archive: bool
    files: tuple[tuple[str, Share], ...]

    @property
    def total(self) -> Share:
        """Sum of all files."""
        return sum((share for _, share in self.files), Share())

    def by(self, name_of: Callable[[str], str]) -> dict[str, Share]:
        """Sum the shares of files by name, largest size first. name_of: maps a path to a name."""
        found: dict[str, Share] = {}
        for path, share in self.files:
            name = name_of(path)
            found[name] = found.get(name, Share()) + share
        return dict(sorted(found.items(), key=lambda row: (-row[1].size, row[0])))


def weigh(repo: Repo, commit: str, reporter: Reporter) -> Weight:
    """Find the sizes of a commit's files, without reading their contents. Raises RepositoryError if an object is missing or
    damaged."""
    archive = repo.config.mode is Mode.ARCHIVE
    seen: set[bytes] = set()
    found = []
    with reporter.task("Weighing files", unit="files") as task:
        # in the same directory elsewhere is no object that was not seen
        for path, checksum, meta in repo.walk(commit, most=1):
            if meta is not None or checksum in seen:
                continue
            seen.add(checksum)
            with repo.open_content(checksum) as content:
                size = content.size
            stored = repo.size_of(checksum.hex(), "filez") if archive else 0
            found.append((path, Share(objects=1, size=size, stored=stored)))
            task.advance()
    return Weight(commit=commit, archive=archive, files=tuple(found))


def directory_of(path: str, depth: int) -> str:
    """Return the directory of a path, cut to depth components: "/usr/lib" for usr/lib/x/y and 2."""
    return "/" + "/".join(path.split("/")[:-1][:depth])


def source_of(writer: str) -> str:
    """Return a name for a writer (see tree.Entry) that stays the same from build to build."""
    kind, _, rest = writer.partition(":")
    if kind in ("package", "scriptlet"):
        # NAME-[EPOCH:]VERSION-RELEASE.ARCH, and the phase of a scriptlet
        name = rest.rsplit("-", 2)[0]
        return f"package {name}" if kind == "package" else f"scriptlets of {name}"
    return writer


def sources(writers: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function for Weight.by() that maps paths to source_of(). writers: of records.Records."""
    return lambda path: source_of(writers[path]) if path in writers else "not recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One name's share in a commit, and in an older one; before is None if there is no older commit."""

    name: str
    now: Share
    before: Share | None


def rows(now: Mapping[str, Share], before: Mapping[str, Share] | None) -> tuple[Row, ...]:
    """Merge the shares of two commits, largest difference first; if before is None, keep the order of now."""
    if before is None:
        return tuple(Row(name=name, now=share, before=None) for name, share in now.items())
    names: Iterable[str] = now.keys() | before.keys()
    found = [Row(name=name, now=now.get(name, Share()), before=before.get(name, Share())) for name in names]
    return tuple(sorted(found, key=lambda row: (-abs(growth(row)), row.name)))


def growth(row: Row) -> int:
    """Return by how many bytes a name grew; its size if there is no older commit."""
    return row.now.size - (row.before.size if row.before is not None else 0)
