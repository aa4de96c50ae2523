"""Our commit beside `ostree commit` of the same directory: fresh repositories, default fsync, warm page cache.

    python3 -m tests.bench.commit TREE [--mode=archive|bare-user] [--scratch=DIR]

prints one row of bench.json. Both sides are whole processes that scan the directory, so neither knows a digest before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from compose.events import Reporter
from compose.ostree.config import Mode
from compose.ostree.gvariant import Variant
from compose.ostree.objects import Commit
from compose.ostree.repo import Repo
from compose.ostree.transaction import Transaction
from tests.bench.measure import Cost, floor, measure, size_of
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


def bench_commit(tree: Path, scratch: Path, *, mode: str = "archive") -> dict[str, Any]:
    """The row. Raises RuntimeError when the two commits differ, for then they did not do the same work."""
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in files:
        path.read_bytes()
    repos = {"peer": scratch / "peer", "ours": scratch / "ours"}
    commands = {
        "peer": ["ostree", f"--repo={repos['peer']}", "commit", f"--branch={_REF}", f"--timestamp=@{_TIMESTAMP}",
                 f"--tree=dir={tree}"],
        "ours": [sys.executable, "-m", "tests.bench.commit", "--ours", repos["ours"], tree],
    }  # fmt: skip
    costs: dict[str, Cost] = {}
    sizes: dict[str, int] = {}
    commits: set[str] = set()
    for who, repo in repos.items():
        shutil.rmtree(repo, ignore_errors=True)
        repo.mkdir(parents=True)
        subprocess.run(["ostree", f"--repo={repo}", "init", f"--mode={mode}"], check=True, stdin=subprocess.DEVNULL)
        # what others have left to write is not this one's cost
        os.sync()
        costs[who] = measure(commands[who])
        sizes[who] = size_of(repo / "objects")
        commits.add((repo / "refs/heads" / _REF).read_text())
    if len(commits) != 1:
        raise RuntimeError(f"ostree commit and ours differ: {commits}")
    limits = floor(
        files, scratch / "floor", len(os.sched_getaffinity(0)), deflated=mode == Mode.ARCHIVE.removesuffix("-z2")
    )
    for repo in repos.values():
        shutil.rmtree(repo)
    ours, peer = costs["ours"], costs["peer"]
    return {
        "name": f"commit-{mode}",
        "ours": {"wall": round(ours.wall, 2), "cpu": round(ours.cpu, 2), "bytes": sizes["ours"]},
        "peer": {"wall": round(peer.wall, 2), "cpu": round(peer.cpu, 2), "bytes": sizes["peer"]},
        "ratio_wall": round(peer.wall / ours.wall, 2),
        "ratio_cpu": round(peer.cpu / ours.cpu, 2),
        "peak_rss_mb": round(ours.rss),
        "floor": limits.figures(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--mode", choices=["archive", "bare-user"], default="archive")
    parser.add_argument("--scratch", type=Path, default=Path("build/bench-commit"))
    parser.add_argument("--ours", metavar="REPO", help="only commit to REPO, by our writer: what is measured")
    arguments = parser.parse_args()
    if arguments.ours:
        commit_ours(arguments.ours, str(arguments.tree))
    else:
        print(json.dumps(bench_commit(arguments.tree, arguments.scratch, mode=arguments.mode)))


if __name__ == "__main__":
    main()
