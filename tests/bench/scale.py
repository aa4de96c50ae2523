"""How cost grows: with the packages of a repository, the entries of a tree, the objects of a repository.

Each row has points, and the exponent of a power law through them: 1 is linear, 0 is not at all.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compose.blobs import BlobStore
from compose.commit import CommitOptions, commit_tree
from compose.events import Reporter
from compose.ostree.repo import Repo
from compose.tree import Entry, Tree
from tests.bench.commit import command
from tests.bench.measure import Cost, exponent, measure, row
from tests.bench.site import Site

PACKAGES = (7_500, 15_000, 30_000, 60_000)
ENTRIES = (62_500, 125_000, 250_000, 500_000)
OBJECTS = (125_000, 250_000, 500_000, 1_000_000)
_SMALL = 2_000
_BLOBS = 2_000
_IN_DIRECTORY = 20

_PACKAGE = """\
<package type="rpm"><name>{name}</name><arch>noarch</arch><version epoch="0" ver="1.{number}" rel="1"/>
<checksum type="sha256" pkgid="YES">{digest}</checksum><summary>Package {number}</summary>
<description>What package {number} is for, in a sentence that is as long as they are.</description>
<packager/><url/><time file="1700000000" build="1700000000"/><size package="1000" installed="2000" archive="2100"/>
<location href="{name}.rpm"/><format><rpm:license>MIT</rpm:license><rpm:vendor/><rpm:group>x</rpm:group>
<rpm:buildhost/><rpm:sourcerpm>{name}.src.rpm</rpm:sourcerpm><rpm:header-range start="1" end="2"/>
<rpm:provides><rpm:entry name="{name}" flags="EQ" epoch="0" ver="1.{number}" rel="1"/>
<rpm:entry name="lib{name}.so.1()(64bit)"/></rpm:provides>
<rpm:requires>{requires}</rpm:requires><file>/usr/bin/{name}</file></format></package>
"""


def bench_repodata(site: Site) -> dict[str, Any]:
    """`compose tree --dry-run` of ten packages out of N, with an empty cache, beside `dnf5 repoquery` of one."""
    points: list[dict[str, Any]] = []
    ours = peer = Cost(wall=1, cpu=1, rss=0, together=0)
    for count in PACKAGES:
        top = site.scratch / f"repodata-{count}"
        write_repodata(top / "repo", count)
        (top / "many.repo").write_text(f"[many]\nbaseurl={(top / 'repo').as_uri()}\ngpgcheck=0\n")
        (top / "tree.yaml").write_text('releasever: "1"\nselinux: false\nrepos: [many]\npackages: [package-9]\n')
        flags = ("--dry-run", f"--cachedir={top / 'cache'}")
        ours = measure([sys.executable, "-m", "compose", "tree", top / "tree.yaml", *flags])
        again = measure([sys.executable, "-m", "compose", "tree", top / "tree.yaml", *flags])
        peer = measure(
            [
                *("dnf5", "repoquery", "--quiet", "--setopt=plugins=False", f"--setopt=reposdir={top}"),
                *("--setopt=optional_metadata_types=filelists", f"--setopt=cachedir={top / 'dnf'}"),
                *(f"--installroot={top / 'root'}", "--releasever=1", "package-9"),
            ]
        )
        points.append(
            {
                "packages": count,
                **{name: cost.figures() for name, cost in (("first", ours), ("again", again), ("peer", peer))},
            }
        )
    return row(
        "scale-repodata",
        ours,
        peer,
        {"total": 0.0},
        points=points,
        exponent=exponent((each["packages"], each["first"]["cpu"]) for each in points),
        exponent_again=exponent((each["packages"], each["again"]["cpu"]) for each in points),
    )


def write_repodata(directory: Path, count: int) -> None:
    """A repository of packages that need each other in chains of ten. The RPMs themselves are not there."""
    (directory / "repodata").mkdir(parents=True)
    packages, files = [], []
    for number in range(count):
        name, digest = f"package-{number}", hashlib.sha256(str(number).encode()).hexdigest()
        requires = f'<rpm:entry name="libpackage-{number - 1}.so.1()(64bit)"/>' if number % 10 else ""
        packages.append(_PACKAGE.format(name=name, number=number, digest=digest, requires=requires))
        names = "".join(f"<file>/usr/share/{name}/{each}</file>" for each in range(10))
        version = f'<version epoch="0" ver="1.{number}" rel="1"/>'
        files.append(f'<package pkgid="{digest}" name="{name}" arch="noarch">{version}{names}</package>\n')
    space = 'xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"'
    entries = ""
    for kind, opening, rows in (
        ("primary", f'<metadata {space} packages="{count}">', packages),
        ("filelists", f'<filelists xmlns="http://linux.duke.edu/metadata/filelists" packages="{count}">', files),
    ):
        closing = f"</{opening[1:].partition(' ')[0]}>"
        plain = f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}\n{"".join(rows)}{closing}\n'.encode()
        packed = gzip.compress(plain, 1, mtime=0)
        (directory / f"repodata/{kind}.xml.gz").write_bytes(packed)
        digests = (hashlib.sha256(packed).hexdigest(), hashlib.sha256(plain).hexdigest())
        entries += (
            f'<data type="{kind}"><checksum type="sha256">{digests[0]}</checksum>'
            f'<open-checksum type="sha256">{digests[1]}</open-checksum><location href="repodata/{kind}.xml.gz"/>'
            f"<timestamp>1700000000</timestamp><size>{len(packed)}</size><open-size>{len(plain)}</open-size></data>\n"
        )
    (directory / "repodata/repomd.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<repomd xmlns="http://linux.duke.edu/metadata/repo">'
        f"<revision>1700000000</revision>\n{entries}</repomd>\n"
    )


def bench_tree(site: Site) -> dict[str, Any]:
    """A tree of N entries committed, and again after one file changed: the points. Beside the peer, ours is the commit of a
    directory with as many files as the smallest tree, into an empty repository."""
    top = site.scratch / "scale-tree"
    top.mkdir()
    points: list[dict[str, Any]] = []
    for count in ENTRIES:
        out = top / "figures.json"
        measure([sys.executable, "-m", "tests.bench.scale", top / str(count), str(count), out])
        points.append(json.loads(out.read_text()))
    directory = top / "directory"
    write_small_files(directory, ENTRIES[0])
    costs = {}
    for who in ("peer", "ours"):
        repo = site.repo(f"scale-tree-{who}")
        subprocess.run(["sync"], check=True)
        costs[who] = measure(command(who, repo, directory))
    first, last = points[0], points[-1]
    return row(
        "scale-tree",
        costs["ours"],
        costs["peer"],
        site.rates.floor(created=ENTRIES[0] * (1 + 1 / _IN_DIRECTORY)),
        points=points,
        exponent=exponent((each["entries"], each["again_cpu"]) for each in points),
        bytes_per_entry=round((last["rss"] - first["rss"]) / (last["entries"] - first["entries"])),
    )


def bench_objects(site: Site) -> dict[str, Any]:
    """A small tree that is in the repository already, committed again into N other objects."""
    directory = site.scratch / "small"
    write_small_files(directory, _SMALL)
    repo = site.repo("scale-objects")
    measure(command("peer", repo, directory))
    points: list[dict[str, Any]] = []
    made = 0
    costs: dict[str, Cost] = {}
    for count in OBJECTS:
        for number in range(made, count):
            name = hashlib.sha256(str(number).encode()).hexdigest()
            path = repo / "objects" / name[:2]
            path.mkdir(exist_ok=True)
            os.close(os.open(path / f"{name[2:]}.filez", os.O_WRONLY | os.O_CREAT, 0o644))
        made = count
        subprocess.run(["sync"], check=True)
        costs = {who: measure(command(who, repo, directory)) for who in ("peer", "ours")}
        points.append({"objects": count, **{who: cost.figures() for who, cost in costs.items()}})
    return row(
        "scale-objects",
        costs["ours"],
        costs["peer"],
        site.rates.floor(created=1),
        points=points,
        exponent=exponent((each["objects"], each["ours"]["cpu"]) for each in points),
    )


def write_small_files(directory: Path, count: int) -> None:
    for number in range(count):
        place = directory / str(number // _IN_DIRECTORY // 100) / str(number // _IN_DIRECTORY)
        if number % _IN_DIRECTORY == 0:
            place.mkdir(parents=True)
        (place / str(number)).write_text(str(number))


def commit_twice(directory: Path, count: int) -> dict[str, float]:
    """Commit a tree of so many entries, then once more with one file changed; seconds of CPU and wall, and most memory."""
    store = BlobStore(str(directory / "blobs"))
    blobs = [store.add_bytes(str(number).encode()) for number in range(_BLOBS)]
    label = ((b"security.selinux", b"system_u:object_r:usr_t:s0\0"),)
    entries = {"": Entry(mode=stat.S_IFDIR | 0o755, xattrs=label)}
    for number in range(count):
        if len(entries) >= count:
            break
        above, place = (
            f"d{number // _IN_DIRECTORY // 100}",
            f"d{number // _IN_DIRECTORY // 100}/{number // _IN_DIRECTORY}",
        )
        for path in (above, place):
            if path not in entries:
                entries[path] = Entry(mode=stat.S_IFDIR | 0o755, xattrs=label, writer="package:a-1-1.noarch")
        blob = blobs[number % _BLOBS]
        entries[f"{place}/file-{number}"] = Entry(
            mode=stat.S_IFREG | 0o644, xattrs=label, blob=blob, mtime=number, writer="package:a-1-1.noarch"
        )
    tree = Tree(entries)
    del entries
    figures: dict[str, float] = {"entries": len(tree)}
    with Repo.create(str(directory / "repo")) as repo:
        options = CommitOptions(metadata=(), parent=None, timestamp=0, ref="a", memo=str(directory / "memo"), jobs=2)
        for name in ("first", "again"):
            cpu, wall = time.process_time(), time.monotonic()
            commit_tree(tree, store, repo, options, Reporter())
            figures[f"{name}_cpu"] = round(time.process_time() - cpu, 3)
            figures[f"{name}_wall"] = round(time.monotonic() - wall, 3)
            editor = tree.edit()
            editor.add_file("d0/0/file-0", store.add_bytes(b"changed"), writer="test")
            tree = editor.build()
    figures["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return figures


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(commit_twice(Path(sys.argv[1]), int(sys.argv[2]))))
