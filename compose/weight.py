"""What a commit weighs, and who brought it: bytes of its files, each object counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.repo import Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """objects: files and symlinks, those with the same content, owner and mode once. size: of regular files, bytes. stored:
    bytes of the objects in an archive repository, which is what a client downloads that has none of them; 0 in another."""

    objects: int = 0
    size: int = 0
    stored: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(
            objects=self.objects + other.objects, size=self.size + other.size, stored=self.stored + other.stored
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """Of a commit. files: (path, its share) in the order of the walk; of an object with several paths the first has it all."""

    commit: str
    archive: bool
    files: tuple[tuple[str, Share], ...]

    @property
    def total(self) -> Share:
        return sum((share for _, share in self.files), Share())

    def by(self, name_of: Callable[[str], str]) -> dict[str, Share]:
        """What each of the names has that paths are given; the heaviest first."""
        found: dict[str, Share] = {}
        for path, share in self.files:
            name = name_of(path)
            found[name] = found.get(name, Share()) + share
        return dict(sorted(found.items(), key=lambda row: (-row[1].size, row[0])))


def weigh(repo: Repo, commit: str, reporter: Reporter) -> Weight:
    """Raises RepositoryError when an object is missing or damaged. Contents are not read."""
    archive = repo.config.mode is Mode.ARCHIVE
    seen: set[bytes] = set()
    found = []
    with reporter.task("Weighing files", unit="files") as task:
        for path, checksum, meta in repo.walk(commit):
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
    """The directory above a path that is at most `depth` names deep: "/usr/lib" of usr/lib/x/y at 2."""
    return "/" + "/".join(path.split("/")[:-1][:depth])


def source_of(writer: str) -> str:
    """Who brought a path (tree.Entry's writer), without what changes from build to build."""
    kind, _, rest = writer.partition(":")
    if kind in ("package", "scriptlet"):
        # NAME-[EPOCH:]VERSION-RELEASE.ARCH, and the phase of a scriptlet
        name = rest.rsplit("-", 2)[0]
        return f"package {name}" if kind == "package" else f"scriptlets of {name}"
    return writer


def sources(writers: Mapping[str, str]) -> Callable[[str], str]:
    """For Weight.by(): by records.Records.writers."""
    return lambda path: source_of(writers[path]) if path in writers else "not recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One name in two commits; before is None where there is no other commit to compare with."""

    name: str
    now: Share
    before: Share | None


def rows(now: Mapping[str, Share], before: Mapping[str, Share] | None) -> tuple[Row, ...]:
    """The heaviest first, or what differs most."""
    if before is None:
        return tuple(Row(name=name, now=share, before=None) for name, share in now.items())
    names: Iterable[str] = now.keys() | before.keys()
    found = [Row(name=name, now=now.get(name, Share()), before=before.get(name, Share())) for name in names]
    return tuple(sorted(found, key=lambda row: (-abs(growth(row)), row.name)))


def growth(row: Row) -> int:
    """Bytes."""
    return row.now.size - (row.before.size if row.before is not None else 0)
