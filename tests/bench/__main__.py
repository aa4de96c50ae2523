"""Ours and the peers side by side, in one run, on the same input: `make bench` writes build/bench.json.

A list of rows: name; ours, peer (wall and cpu in seconds; peak_rss_mb of the largest process, peak_together_mb of all at
once; bytes of the repository's objects); ratio_wall, ratio_cpu (peer's divided by ours: higher is better); floor, the seconds
that no program can go below here, by rates measured in the same run; above_floor, how many times that ours took. Rows named
scale-* have points of several sizes and the exponent of a power law through them; more: the same at another size. What cannot
be measured is not there.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.commit import bench_commit
from tests.bench.compose import bench_cold, bench_import, bench_leaf, bench_unchanged
from tests.bench.delta import bench_delta
from tests.bench.scale import bench_objects, bench_repodata, bench_tree
from tests.bench.site import Site

ROWS: dict[str, Callable[[Site], dict[str, Any]]] = {
    "compose-cold": bench_cold,
    "recompose-one-leaf": bench_leaf,
    "unchanged": bench_unchanged,
    "import": bench_import,
    "commit-archive": lambda site: bench_commit(site, "archive"),
    "commit-bare-user": lambda site: bench_commit(site, "bare-user"),
    "delta-one-leaf": bench_delta,
    "scale-repodata": bench_repodata,
    "scale-tree": bench_tree,
    "scale-objects": bench_objects,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("--universe", type=Path, default=Path("build/universe"))
    parser.add_argument("--set", default="big", help="of tests/universe; big by default")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all of them by default")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    output: Path = options.output.resolve()
    scratch = output.parent / "bench"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    site = Site(options.universe.resolve(), options.set, scratch)
    rows: list[dict[str, Any]] = []
    for name, bench in ROWS.items():
        if not options.rows or name in options.rows:
            rows.append(bench(site))
            print(summary(rows[-1]), flush=True)
            temporary = output.with_suffix(".tmp")
            temporary.write_text(json.dumps(rows, indent=2) + "\n")
            temporary.rename(output)
    shutil.rmtree(scratch)
    print(f"written to {output}")


def summary(row: dict[str, Any]) -> str:
    """One line of a row, and one of the row that is in it."""
    ours, peer = row["ours"], row["peer"]
    sizes = [f"{each['bytes'] / 1e6:.1f}" for each in (ours, peer) if "bytes" in each]
    parts = [
        f"{row['name']:18} ours {ours['wall']:7.2f} s, peer {peer['wall']:7.2f} s: {row['ratio_wall']:.2f}x wall,"
        f" {row['ratio_cpu']:.2f}x cpu",
        f"{row['above_floor']}x the floor" if row["above_floor"] else "",
        f"{' / '.join(sizes)} MB" if sizes else "",
        f"{ours['peak_together_mb']} MB of memory",
        f"exponent {row['exponent']}" if "exponent" in row else "",
        f"the first one {row['first']['wall']:.2f} s, {row['first']['ratio_wall']:.2f}x" if "first" in row else "",
    ]
    line = "; ".join(part for part in parts if part)
    return f"{line}\n{summary(row['more'])}" if "more" in row else line


if __name__ == "__main__":
    main()
