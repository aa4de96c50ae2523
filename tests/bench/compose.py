"""A cold compose beside the steps that take its place without it.

Ours is the whole of `compose tree` with an empty cachedir: solve, signatures, import, scriptlets, layout, initramfs, labels,
rpmdb, commit. The peer is `dnf5 --installroot`, dracut in a chroot and `ostree commit`: the same packages from the same
local repository into an archive repository, signatures checked, scriptlets run, but no OSTree layout and no labels.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from compose.pipeline.run import flattened_treefile
from tests.bench.measure import Cost, floor, measure, size_of

PROJECT = Path(__file__).parents[2]
# In a mount namespace of its own: the chroot has what a real system has, and nothing stays mounted.
_IN_ROOT = (
    'root=$1; shift; for each in proc sys dev; do mount --rbind "/$each" "$root/$each"; done; exec chroot "$root" "$@"'
)


def treefile_in(directory: Path, universe: Path) -> Path:
    """The demonstration's treefile with its .repo file; the repository's RPMs are read once, so that they are in memory."""
    directory.mkdir(parents=True)
    shutil.copy(PROJECT / "treefiles/demo/min.yaml", directory)
    shutil.copy(universe / "min/universe.repo", directory)
    for path in (universe / "min/Packages").iterdir():
        path.read_bytes()
    return directory / "min.yaml"


def bench_compose(universe: Path, scratch: Path, *, tree: Path) -> dict[str, Any]:
    """The row. tree: where the composed tree is left, checked out.

    Raises RuntimeError when a step fails or the two sides did not install the same packages.
    """
    treefile = treefile_in(scratch / "treefile", universe)
    ours_repo, peer_repo, root = scratch / "ours", scratch / "peer", scratch / "root"
    for repo in (ours_repo, peer_repo):
        subprocess.run(["ostree", f"--repo={repo}", "init", "--mode=archive"], check=True, stdin=subprocess.DEVNULL)

    os.sync()
    peer = _peer(treefile, root, peer_repo, scratch / "dnf")
    names = _installed(root)
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]

    os.sync()
    result = scratch / "compose.json"
    ours = measure(
        [
            *(sys.executable, "-m", "compose", "tree", treefile, f"--repo={ours_repo}"),
            *(f"--cachedir={scratch / 'cache'}", f"--write-composejson-to={result}"),
        ]
    )
    outcome = json.loads(result.read_text())
    if outcome["packages"] != len(names):
        raise RuntimeError(f"dnf5 installed {len(names)} packages, compose {outcome['packages']}")
    limits = floor(files, scratch / "floor", len(os.sched_getaffinity(0)), deflated=True)
    row = {
        "name": "compose-cold",
        "ours": {**_figures(ours), "bytes": size_of(ours_repo / "objects"), "stages": outcome["stage-seconds"]},
        "peer": {
            **_figures(sum(peer.values(), Cost(wall=0, cpu=0, rss=0))),
            "bytes": size_of(peer_repo / "objects"),
            "stages": {name: round(cost.wall, 2) for name, cost in peer.items()},
        },
    }
    total = sum(cost.wall for cost in peer.values())
    row["ratio_wall"] = round(total / ours.wall, 2)
    row["ratio_cpu"] = round(sum(cost.cpu for cost in peer.values()) / ours.cpu, 2)
    row["peak_rss_mb"] = round(ours.rss)
    row["floor"] = limits.figures()
    subprocess.run(["ostree", f"--repo={ours_repo}", "checkout", outcome["ref"], tree], check=True)
    return row


def _figures(cost: Cost) -> dict[str, float]:
    return {"wall": round(cost.wall, 2), "cpu": round(cost.cpu, 2)}


def _peer(treefile: Path, root: Path, repo: Path, cache: Path) -> dict[str, Cost]:
    """Cost of each step."""
    flat = json.loads(flattened_treefile(str(treefile)))
    costs = {}
    costs["dnf5"] = measure(
        [
            *(
                "dnf5",
                "install",
                "--assumeyes",
                "--quiet",
                f"--installroot={root}",
                f"--releasever={flat['releasever']}",
            ),
            *("--setopt=plugins=False", f"--setopt=reposdir={treefile.parent}", f"--setopt=cachedir={cache}"),
            *("--setopt=install_weak_deps=True", *flat["packages"]),
        ]
    )
    kernels = [path.name for path in (root / "usr/lib/modules").iterdir() if (path / "vmlinuz").exists()]
    if len(kernels) != 1:
        raise RuntimeError(f"dnf5 left the kernels {kernels}")
    initramfs = f"/usr/lib/modules/{kernels[0]}/initramfs.img"
    costs["dracut"] = measure(
        [
            *("unshare", "--mount", "--propagation=private", "sh", "-ec", _IN_ROOT, "sh", root),
            *("/usr/bin/dracut", "--reproducible", "--add", "ostree", "--force", "--kver", kernels[0], initramfs),
        ]
    )
    costs["ostree commit"] = measure(["ostree", f"--repo={repo}", "commit", "--branch=peer", f"--tree=dir={root}"])
    return costs


def _installed(root: Path) -> list[str]:
    """Names of the packages in a root, keys left out."""
    names: set[str] = set()
    # where the host's rpm keeps its database, or where the packages' own macros say
    for place in ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"):
        if (root / place).is_dir():
            done = subprocess.run(
                ["rpm", f"--root={root}", f"--dbpath=/{place}", "-qa", "--qf=%{name}\n"],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            names |= set(done.stdout.split())
    return sorted(names - {"gpg-pubkey"})
