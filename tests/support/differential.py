"""Two trees of the same packages, compared path by path: type, mode, owner, capabilities, target, content, hard links.

Owners are compared by name, for whoever asks first gets the first free id. A difference is explained by a named rule or it
is a fault.
"""

from __future__ import annotations

import collections
import hashlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose.assemble.accounts import parse_ids
from compose.assemble.options import AssembleOptions
from compose.assemble.stage import assemble
from compose.blobs import BlobStore
from compose.events import Reporter
from compose.importer.unpack import unpack_rpm
from compose.rootfs import read_rootfs
from compose.rpm.manifest import PackageManifest
from compose.rpm.order import install_order
from compose.tree import Entry, Tree
from tests.support.rpmrepo import run

# In a mount namespace of its own: scripts have what a real system has, and nothing stays mounted.
_WITH_MOUNTS = (
    'root=$1; shift; for each in proc sys dev; do mkdir -m 755 "$root/$each"; mount --rbind "/$each" "$root/$each"; done;'
    ' exec "$@"'
)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. store: holds its contents."""

    tree: Tree
    store: BlobStore

    def read(self, path: str) -> bytes:
        """Content of a file; nothing for what is none."""
        entry = self.tree.get(path)
        return self.store.read(entry.blob) if entry is not None and entry.blob is not None else b""

    def names(self, name: str) -> dict[int, str]:
        """id -> name of etc/passwd or etc/group."""
        return {number: each for each, number in reversed(parse_ids(self.read(f"etc/{name}")).items())}


@dataclass(frozen=True, slots=True)
class Difference:
    """aspect: "missing" (not in ours), "extra" (only in ours), "type", "mode", "owner", "xattrs", "target", "content",
    "links"."""

    path: str
    aspect: str
    ours: object
    theirs: object

    def __str__(self) -> str:
        return f"/{self.path}: {self.aspect}: {self.ours} is not {self.theirs}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Explains a difference. applies(difference, ours, theirs)."""

    name: str
    reason: str
    applies: Callable[[Difference, Side, Side], bool]


def imported(rpms: Sequence[Path], store: BlobStore) -> list[PackageManifest]:
    """Packages as they are to be installed."""
    found = {}
    for path in rpms:
        manifest = unpack_rpm(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), store)
        found[manifest.nevra] = (manifest, str(path))
    order = install_order([(nevra, path) for nevra, (_, path) in found.items()], Reporter())
    return [found[nevra][0] for nevra in order]


def assembled(rpms: Sequence[Path], work: Path, epoch: int, **options: Any) -> Side:
    """What assembly makes of the packages. work: an empty directory to work in. options: of AssembleOptions."""
    store = BlobStore(str(work / "blobs"))
    scratch = work / "scratch"
    scratch.mkdir()
    done = assemble(imported(rpms, store), AssembleOptions(epoch=epoch, **options), store, str(scratch), Reporter())
    return Side(done.tree, store)


def installed_by_dnf5(rpms: Sequence[Path], work: Path, epoch: int, *, macros: str = "") -> tuple[Side, Path]:
    """What `dnf5 --installroot` makes of them, and the directory it is in. macros: lines that rpm knows beside its own.

    There is a /run/ostree-booted while scripts run, for here it tells them that this is an image.
    """
    root = work / "root"
    (root / "run").mkdir(parents=True)
    (root / "run/ostree-booted").touch()
    (work / ".rpmmacros").write_text(macros)
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation=private", "sh", "-ec", _WITH_MOUNTS, "sh", root),
            *("env", f"SOURCE_DATE_EPOCH={epoch}", f"HOME={work}"),
            *("dnf5", "install", "-y", "--quiet", f"--installroot={root}", "--releasever=1"),
            *("--setopt=plugins=False", f"--setopt=reposdir={work}", f"--setopt=cachedir={work}/dnf", *rpms),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (root / "run/ostree-booted").unlink()
    store = BlobStore(str(work / "dnf5-blobs"))
    return Side(read_rootfs(str(root), store, Reporter(), writer="dnf5", jobs=1).tree, store), root


def verified(root: Path, dbpath: str) -> list[str]:
    """What `rpm -Va` finds wrong in a root: its lines."""
    command = ["rpm", f"--root={root}", f"--dbpath={dbpath}", "-Va", "--nosignature", "--nodigest", "--nomtime"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.splitlines()


def headers(root: Path, dbpath: str) -> list[str]:
    """One line of each package of its database, with what the package is and how it came to be there."""
    query = "%{nevra} %{sha256header} [%{filestates}] %{installcolor}\n"
    lines = run("rpm", f"--root={root}", f"--dbpath={dbpath}", "-qa", f"--qf={query}").splitlines()
    return sorted(line for line in lines if not line.startswith("gpg-pubkey"))


def differences(ours: Side, theirs: Side) -> Iterator[Difference]:
    """All of them, by path."""
    accounts = [(side.names("passwd"), side.names("group")) for side in (ours, theirs)]
    links = [_groups(side.tree) for side in (ours, theirs)]
    for path in sorted({*ours.tree.entries, *theirs.tree.entries}):
        mine, other = ours.tree.get(path), theirs.tree.get(path)
        if mine is None or other is None:
            yield Difference(
                path, "extra" if other is None else "missing", mine and _brief(mine), other and _brief(other)
            )
            continue
        described = [
            _describe(entry, *names, found.get(path, frozenset()))
            for entry, names, found in zip((mine, other), accounts, links, strict=True)
        ]
        if described[0]["type"] != described[1]["type"]:
            yield Difference(path, "type", _brief(mine), _brief(other))
            continue
        for aspect, value in described[0].items():
            if value != described[1][aspect]:
                yield Difference(path, aspect, value, described[1][aspect])


def explain(
    found: Sequence[Difference], rules: Sequence[Rule], ours: Side, theirs: Side
) -> tuple[list[Difference], collections.Counter[str]]:
    """(what no rule explains, how many each rule explained)."""
    unexplained = []
    used: collections.Counter[str] = collections.Counter()
    for difference in found:
        rule = next((rule for rule in rules if rule.applies(difference, ours, theirs)), None)
        if rule is None:
            unexplained.append(difference)
        else:
            used[rule.name] += 1
    return unexplained, used


def exactly(*paths: str, aspect: str | None = None) -> Callable[[Difference, Side, Side], bool]:
    """A rule for these paths and nothing below them; of one aspect only, if given."""

    def applies(difference: Difference, ours: Side, theirs: Side) -> bool:
        return difference.path in paths and aspect in (None, difference.aspect)

    return applies


def _describe(entry: Entry, users: dict[int, str], groups: dict[int, str], link: frozenset[str]) -> dict[str, object]:
    kind = "directory" if entry.is_dir else "symlink" if entry.is_symlink else "file"
    return {
        "type": kind,
        "mode": f"{entry.permissions:04o}",
        "owner": f"{users.get(entry.uid, entry.uid)}:{groups.get(entry.gid, entry.gid)}",
        "xattrs": entry.xattrs,
        "target": entry.target,
        "content": entry.blob.digest if entry.blob is not None else None,
        "links": link,
    }


def _brief(entry: Entry) -> str:
    kind = "directory" if entry.is_dir else f"symlink to {entry.target}" if entry.is_symlink else "file"
    return f"{kind} {entry.permissions:04o} {entry.writer}"


def _groups(tree: Tree) -> dict[str, frozenset[str]]:
    """Path -> all paths of its inode, where there are several."""
    members: dict[str, list[str]] = collections.defaultdict(list)
    for path, entry in tree.entries.items():
        if entry.link:
            members[entry.link].append(path)
    return {path: frozenset(paths) for paths in members.values() if len(paths) > 1 for path in paths}
