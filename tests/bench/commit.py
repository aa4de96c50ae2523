"""Our commit beside `ostree commit` of the same directory: fresh repositories, default fsync, warm page cache, by turns.

`python3 -m tests.bench.commit REPO TREE` is what is measured of ours: the writer alone does what `ostree commit` does. Beside
it the row has `compose commit` with an empty cache, which also checks the tree and computes its labels. All are whole
processes that scan the directory, so none knows a digest before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from compose.events import Reporter
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from tests.bench.measure import ROUNDS, Cost, best, measure, regular_files, row, size_of
from tests.bench.site import Site
from tests.support.contents import write_directory

_REF = "bench"
_TIMESTAMP = 1700000000


def commit_ours(repo: str, tree: str) -> str:
    """What `ostree commit --branch=bench --timestamp=@1700000000` does, by our writer. Returns the checksum."""
    with (
        Repo.open(repo) as opened,
        Transaction(opened, jobs=len(os.sched_getaffinity(0)), reporter=Reporter()) as transaction,
    ):
        root_tree, root_meta = write_directory(transaction, tree)
        checksum = transaction.write_commit(
            Commit(
                metadata=(("ostree.ref-binding", Variant("as", [_REF])),),
                parent=b"",
                subject="",
                body="",
                timestamp=_TIMESTAMP,
                root_tree=root_tree,
                root_meta=root_meta,
            )
        )
        transaction.set_ref(_REF, checksum)
    return checksum


def bench_commit(site: Site, mode: str) -> dict[str, Any]:
    """The row. Raises RuntimeError when the commits differ, for then they did not do the same work."""
    tree = site.tree
    files = regular_files(tree)
    size = sum(path.stat().st_size for path in files)
    for path in files:
        path.read_bytes()
    costs: dict[str, list[tuple[Cost, None]]] = {"peer": [], "ours": []}
    commands: list[tuple[Cost, None]] = []
    sizes: dict[str, int] = {}
    commits: set[str] = set()
    trees: set[tuple[bytes, bytes]] = set()
    site.rest()
    for number in range(ROUNDS):
        for who, runs in costs.items():
            repo = site.repo(f"commit-{mode}-{who}-{number}", mode)
            # what others have left to write is not this one's cost
            subprocess.run(["sync"], check=True)
            runs.append((measure(command(who, repo, tree)), None))
            sizes[who] = size_of(repo / "objects")
            commits.add((repo / "refs/heads" / _REF).read_text())
            trees.add(_tree(repo, _REF))
        repo = site.repo(f"commit-{mode}-command-{number}", mode)
        commands.append((_by_command(site, repo), None))
        trees.add(_tree(repo, site.cold[1]["ref"]))
    if len(commits) != 1 or len(trees) != 1:
        raise RuntimeError(f"ostree commit and ours differ: {commits}")
    archive = mode == "archive"
    floor = site.rates.floor(
        hashed=size,
        deflated=size if archive else 0,
        created=len(files),
        stored=size * site.rates.dense if archive else size,
    )
    of_ours, of_peer = ({"bytes": sizes[who]} for who in ("ours", "peer"))
    (ours, _), (peer, _) = best(costs["ours"]), best(costs["peer"])
    more = row(f"{mode}, compose commit", best(commands)[0], peer, floor)
    return row(f"commit-{mode}", ours, peer, floor, of_ours=of_ours, of_peer=of_peer, more=more)


def _by_command(site: Site, repo: Path) -> Cost:
    cache = site.scratch / f"cache-of-{repo.name}"
    command: list[str | Path] = [sys.executable, "-m", "compose", "commit", f"--repo={repo}", f"--cachedir={cache}"]
    subprocess.run(["sync"], check=True)
    return measure([*command, site.treefiles / "v1.yaml", site.tree])


def _tree(repo: Path, ref: str) -> tuple[bytes, bytes]:
    with Repo.open(str(repo)) as opened:
        checksum = opened.resolve(ref)
        assert checksum is not None
        commit = opened.read_commit(checksum)
    return commit.root_tree, commit.root_meta


def command(who: str, repo: Path, tree: Path) -> list[str | Path]:
    """Command line that commits a directory: "ours" or "peer"."""
    if who == "ours":
        return [sys.executable, "-m", "tests.bench.commit", repo, tree]
    return [
        "ostree",
        f"--repo={repo}",
        "commit",
        f"--branch={_REF}",
        f"--timestamp=@{_TIMESTAMP}",
        f"--tree=dir={tree}",
    ]


if __name__ == "__main__":
    commit_ours(sys.argv[1], sys.argv[2])
