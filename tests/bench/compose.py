"""Composes beside the steps that take their place without one.

Ours is the whole of `compose tree`: solve, signatures, import, scriptlets, layout, initramfs, labels, rpmdb, commit. The peer
is `dnf5 --installroot`, dracut in a chroot and `ostree commit`: the same packages from the same local repositories into an
archive repository, signatures checked, scriptlets run, but no OSTree layout and no labels. It has nothing that it could use
again of a compose before, so it does all of it twice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from compose.pipeline.flat import flattened_treefile
from tests.bench.measure import ROUNDS, Cost, best, measure, row, size_of
from tests.bench.scale import write_repodata
from tests.bench.site import Site

# In a mount namespace of its own: the chroot has what a real system has, and nothing stays mounted.
_IN_ROOT = (
    'root=$1; shift; for each in proc sys dev; do mount --rbind "/$each" "$root/$each"; done; exec chroot "$root" "$@"'
)
_LOAD = """\
import sys, libdnf5
base = libdnf5.base.Base()
base.get_config().plugins = False
base.get_config().cachedir = sys.argv[1]
base.get_config().optional_metadata_types = ["filelists"]
base.setup()
sack = base.get_repo_sack()
for number, url in enumerate(sys.argv[2:]):
    config = sack.create_repo(f"r{number}").get_config()
    config.baseurl = url
    config.metadata_expire = 0
sack.load_repos(libdnf5.repo.Repo.Type_AVAILABLE)
"""
"""What an unchanged compose cannot do without: the interpreter, libdnf5, the repositories' metadata brought up to date."""

_RUNS = 5
_MANY = 60_000


def bench_cold(site: Site) -> dict[str, Any]:
    """Raises RuntimeError when a step fails or the two sides did not install the same packages."""
    ours, result = site.cold
    total, peer = _peers(site, 1)
    names = _installed(site.scratch / "root-1-1")
    if result["packages"] != len(names):
        raise RuntimeError(f"dnf5 installed {len(names)} packages, compose {result['packages']}")
    files, size = result["ostree-n-content-total"], result["content-bytes-hashed"]
    return row(
        "compose-cold",
        ours,
        total,
        # the RPMs and what is in them are hashed, and each file is made twice: in the cache, in the repository
        site.rates.floor(
            hashed=size_of(site.packages) + 2 * size,
            deflated=size,
            created=2 * files,
            stored=size + result["ostree-content-bytes-written"],
        ),
        of_ours={"bytes": size_of(site.composed / "objects"), "stages": result["stage-seconds"]},
        of_peer={"bytes": size_of(site.scratch / "peer-1-1/objects"), "stages": _walls(peer)},
    )


def bench_leaf(site: Site) -> dict[str, Any]:
    """After a leaf package of 1 MB changed, as on every day but the first. object_work: of the commit alone.

    first: the one right after the cold compose, which had no commit before it: accounts are now those of its commit, and what
    looks at them runs once more.
    """
    cold, _ = site.cold
    site.rest()
    first, _ = site.compose("v2")
    ours, result = best(site.compose(name) for name in ("v3", "v4"))
    total, peer = _peers(site, 3)
    written = result["ostree-n-content-written"] + result["ostree-n-metadata-written"]
    keys = ("ostree-n-content-total", "ostree-n-content-written", "ostree-n-cache-hits", "content-bytes-hashed")
    return row(
        "recompose-one-leaf",
        ours,
        total,
        site.rates.floor(
            hashed=result["content-bytes-hashed"],
            deflated=result["content-bytes-compressed"],
            created=written,
            stored=result["ostree-content-bytes-written"],
        ),
        of_ours={"stages": result["stage-seconds"], "object_work": {key: result[key] for key in keys}},
        of_peer={"stages": _walls(peer)},
        ratio_cold=round(cold.wall / ours.wall, 2),
        first={**first.figures(), "ratio_wall": round(total.wall / first.wall, 2)},
    )


def bench_unchanged(site: Site) -> dict[str, Any]:
    """Beside loading the same metadata, which is the floor too; and both once more with a repository of as many packages as
    a distribution has, of which none is taken. The best of several runs each: they are short."""
    _ = site.cold
    many = site.scratch / "many"
    write_repodata(many, _MANY)
    (site.treefiles / "many.repo").write_text(f"[many]\nbaseurl={many.as_uri()}\ngpgcheck=0\n")
    (site.treefiles / "many.yaml").write_text("include: v1.yaml\nref: bench/${basearch}/many\nrepos: [many]\n")
    urls = [(site.packages.parent).as_uri(), (site.scratch / "leaf-1").as_uri()]
    pairs = []
    for name, repositories in (("v1", urls), ("many", [*urls, many.as_uri()])):
        site.compose(name)
        runs = [site.compose(name) for _ in range(_RUNS)]
        if any(changed for _, changed in runs):
            raise RuntimeError("a compose that should find nothing to do made a commit")
        load: list[str | Path] = [sys.executable, "-c", _LOAD, site.scratch / "load", *repositories]
        measure(load)
        loads = [(measure(load), None) for _ in range(_RUNS)]
        pairs.append((best(runs)[0], best(loads)[0]))
    (ours, peer), large = pairs
    more = row(f"unchanged-{_MANY}", *large, {"total": round(large[1].wall, 3)})
    return row("unchanged", ours, peer, {"total": round(peer.wall, 3)}, more=more)


def bench_import(site: Site) -> dict[str, Any]:
    """The import stage beside `rpm2cpio | cpio -i` of each package; the RPMs are in the cache. wall is that of the stage alone,
    cpu and memory are those of the whole program: solve and signatures too."""
    timings = site.scratch / "timings.json"
    script = 'set -e; for each in "$1"/*.rpm; do rpm2cpio "$each" | cpio --extract --make-directories --quiet; done'
    runs, peers = [], []
    site.rest()
    for number in range(ROUNDS):
        cache, unpacked = site.scratch / f"import-cache-{number}", site.scratch / f"unpacked-{number}"
        site.compose("v1", "--download-only-rpms", cache=cache)
        whole, _ = site.compose("v1", "--download-only", f"--write-timings-to={timings}", cache=cache)
        stages = {each["name"]: each["seconds"] for each in json.loads(timings.read_text())["stages"]}
        runs.append((replace(whole, wall=stages["import"]), (whole, stages)))
        unpacked.mkdir()
        subprocess.run(["sync"], check=True)
        peers.append((measure(["sh", "-c", script, "sh", site.packages], cwd=unpacked), None))
    ours, (whole, stages) = best(runs)
    peer, _ = best(peers)
    size, count = size_of(unpacked), sum(len(names) for _, _, names in os.walk(unpacked))
    return row(
        "import",
        ours,
        peer,
        site.rates.floor(hashed=size, created=count, stored=size),
        of_ours={"whole_program": whole.figures(), "stages": stages},
    )


def _walls(costs: dict[str, Cost]) -> dict[str, float]:
    return {name: round(cost.wall, 2) for name, cost in costs.items()}


def _peers(site: Site, version: int) -> tuple[Cost, dict[str, Cost]]:
    """The best of several times: all of it, and each step."""
    runs = [_peer(site, version, number) for number in range(1, ROUNDS + 1)]
    return best((sum(steps.values(), Cost(wall=0, cpu=0, rss=0, together=0)), steps) for steps in runs)


def _peer(site: Site, version: int, number: int) -> dict[str, Cost]:
    """Cost of each step. The root is left, root-VERSION-NUMBER, and a new repository with the commit, peer-VERSION-NUMBER."""
    root, cache = site.scratch / f"root-{version}-{number}", site.scratch / "dnf"
    repo = site.repo(f"peer-{version}-{number}")
    flat = json.loads(flattened_treefile(str(site.treefiles / f"v{version}.yaml")))
    site.rest()
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
            *("--setopt=plugins=False", f"--setopt=reposdir={site.treefiles}", f"--setopt=cachedir={cache}"),
            *(f"--repo={','.join(flat['repos'])}", "--setopt=install_weak_deps=True", *flat["packages"]),
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
